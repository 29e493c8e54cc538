//! Carrier types: which carriers have a room, and how large a one.

use std::collections::BTreeMap;

use super::gguf::TensorType;
use super::rooms::{CARRIER_TYPES, HOME_BYTES};

/// How rooms may be dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// I16, most of them as a like share of carriers of every size: what belongs to a tensor lies near it.
    Even,
    /// I16.
    Narrow,
    /// I64 where that is not more than all need, or where I16 everywhere would not suffice: few rooms, each much larger than its carrier's
    /// home. Where a tensor outweighs the rest together, or all are tiny.
    Wide,
}

impl Manner {
    /// The most desirable first.
    pub const ALL: [Self; 3] = [Self::Even, Self::Narrow, Self::Wide];
}

/// Of the carriers of a size, this share of what all have in rooms on average is fixed; the others are chosen to fit.
const FIXED_SHARE: f64 = 0.9;

/// Most numbers that the search for a sum may remember.
const MOST_SUMS: u64 = 1 << 23;

/// A type for each carrier of `elements` weights, so that their rooms have at least `need` bytes together, and little more. Carriers
/// of equal size that have a room are spread evenly among those that have none. `None` if they are too small.
pub fn choose(elements: &[u64], need: u64, manner: Manner) -> Option<Vec<TensorType>> {
    let mut counts = BTreeMap::new();
    for &n in elements {
        *counts.entry(n).or_insert(0u64) += 1;
    }
    let narrow = elements.iter().try_fold(0u64, |sum, &n| sum.checked_add(n))?;
    let wide_up_to = match manner {
        Manner::Wide if narrow < need => u64::MAX,
        Manner::Wide => need,
        _ => 0,
    };
    let class = |(elements, count): (u64, u64)| Class::new(elements, count, wide_up_to);
    let mut classes: Vec<Class> = counts.into_iter().map(class).collect::<Option<_>>()?;
    // Those of which there are many are used first.
    classes.sort_by_key(|class| std::cmp::Reverse((class.count, class.elements)));
    let most = classes.iter().try_fold(0u64, |sum, class| sum.checked_add(class.most()?))?;
    if most < need {
        return None;
    }
    let mut left = need;
    if manner == Manner::Even {
        let share = FIXED_SHARE * need as f64 / most.max(1) as f64;
        for class in &mut classes {
            class.with_room = (class.count as f64 * share) as u64;
            left = left.saturating_sub(class.with_room * class.room);
        }
    }
    let free: Vec<_> = classes.iter().map(|class| (class.room, class.count - class.with_room)).collect();
    for (class, more) in classes.iter_mut().zip(least_sum(&free, left)) {
        class.with_room += more;
    }
    Some(spread(&classes, elements))
}

/// Carriers of the same size.
struct Class {
    elements: u64,
    count: u64,
    /// The type of those that have a room, and the bytes of that.
    ty: TensorType,
    room: u64,
    with_room: u64,
}

impl Class {
    /// `wide_up_to`: bytes of the largest room that an I64 carrier may have. `None` beyond 64 bits.
    fn new(elements: u64, count: u64, wide_up_to: u64) -> Option<Self> {
        let room = |(ty, width): (TensorType, u64)| Some((ty, elements.checked_mul(width - HOME_BYTES)?));
        let [_, narrow, wide] = CARRIER_TYPES;
        let (mut ty, mut bytes) = room(narrow)?;
        if let Some((wide, wide_bytes)) = room(wide)
            && wide_bytes <= wide_up_to
        {
            (ty, bytes) = (wide, wide_bytes);
        }
        Some(Self { elements, count, ty, room: bytes, with_room: 0 })
    }

    fn most(&self) -> Option<u64> {
        self.count.checked_mul(self.room)
    }
}

/// How many of each kind to take, of a size and so many as there are, for the least sum that is at least `need`. The first kinds are
/// used up before later ones. All of them where they do not suffice.
fn least_sum(kinds: &[(u64, u64)], need: u64) -> Vec<u64> {
    let largest = kinds.iter().map(|&(size, _)| size).max().unwrap_or(0);
    let reach = need.saturating_add(largest);
    let common = kinds.iter().fold(0, |common, &(size, _)| gcd(common, size)).max(1);
    // In steps of what divides all sizes; in coarser ones where these are too many, sizes being rounded down.
    let step = common.max(reach / (MOST_SUMS / kinds.len().max(1) as u64).max(1) + 1);
    let (need, reach) = (need.div_ceil(step) as usize, (reach / step) as usize + 1);

    const NONE: u32 = u32::MAX;
    // Of each kind, for each sum: how many of it complete one that earlier kinds have, if any do.
    let mut used = vec![vec![NONE; reach + 1]; kinds.len()];
    let mut earlier = vec![false; reach + 1];
    earlier[0] = true;
    for (used, &(size, count)) in used.iter_mut().zip(kinds) {
        let size = (size / step) as usize;
        for sum in 0..=reach {
            if earlier[sum] {
                used[sum] = 0;
            } else if size > 0
                && sum >= size
                && used[sum - size] != NONE
                && u64::from(used[sum - size]) < count
            {
                used[sum] = used[sum - size] + 1;
                earlier[sum] = true;
            }
        }
    }
    let Some(mut sum) = (need..=reach).find(|&sum| earlier[sum]) else {
        return kinds.iter().map(|&(_, count)| count).collect();
    };
    let mut taken = vec![0; kinds.len()];
    for (i, used) in used.iter().enumerate().rev() {
        taken[i] = u64::from(used[sum]);
        sum -= taken[i] as usize * (kinds[i].0 / step) as usize;
    }
    taken
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn spread(classes: &[Class], elements: &[u64]) -> Vec<TensorType> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ty = |n: u64| {
        let class = classes.iter().find(|class| class.elements == n).expect("made of these");
        let number = seen.entry(n).or_insert(0);
        *number += 1;
        // Wherever the share of those that have a room comes to a whole number more.
        let whole = |number: u64| u128::from(number) * u128::from(class.with_room) / u128::from(class.count);
        if whole(*number) > whole(*number - 1) { class.ty } else { CARRIER_TYPES[0].0 }
    };
    elements.iter().map(|&n| ty(n)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(elements: &[u64], types: &[TensorType]) -> u64 {
        elements.iter().zip(types).map(|(n, &ty)| n * (ty.block_bytes() - 1)).sum()
    }

    #[test]
    fn many_tensors_waste_little() {
        let elements: Vec<u64> = (0..200).map(|i| 2048 * (512 + 13 * i)).collect();
        let need = elements.iter().sum::<u64>() * 41 / 100;
        let types = choose(&elements, need, Manner::Even).unwrap();
        let bytes = total(&elements, &types);
        assert!(bytes >= need && bytes - need < need / 1000, "{bytes} for {need}");
        assert!(!types.contains(&TensorType::I64));
    }

    #[test]
    fn rooms_are_spread() {
        // The matrices of 32 layers, as in Llama-3-8B.
        let layer = [16 << 20, 4 << 20, 4 << 20, 16 << 20, 56 << 20, 56 << 20, 56 << 20];
        let elements: Vec<u64> = std::iter::repeat_n(layer, 32).flatten().collect();
        let need = elements.iter().sum::<u64>() * 41 / 100;
        let types = choose(&elements, need, Manner::Even).unwrap();
        assert!(total(&elements, &types) - need < 4 << 20, "all are multiples of that");
        for quarter in 0..4 {
            let part = quarter * 56..(quarter + 1) * 56;
            let share = total(&elements[part.clone()], &types[part.clone()]) as f64
                / elements[part].iter().sum::<u64>() as f64;
            assert!((0.36..0.46).contains(&share), "{share} in quarter {quarter}");
        }
    }

    #[test]
    fn one_dominating_tensor_stays_narrow() {
        let elements = [1_000_000, 10_000, 20_000, 30_000, 40_000, 15_000];
        let need = elements.iter().sum::<u64>() * 41 / 100;
        let types = choose(&elements, need, Manner::Wide).unwrap();
        let bytes = total(&elements, &types);
        assert_eq!(types[0], TensorType::I8);
        assert!(bytes >= need && bytes - need < need / 10, "{bytes} for {need}");
        assert_eq!(choose(&elements, need, Manner::Narrow).unwrap()[0], TensorType::I16);
    }

    #[test]
    fn too_large_a_need_is_refused() {
        for manner in Manner::ALL {
            assert_eq!(choose(&[100], 701, manner), None);
            assert_eq!(choose(&[u64::MAX, 2], 1, manner), None);
            assert_eq!(choose(&[], 1, manner), None);
        }
        assert_eq!(choose(&[100], 100, Manner::Narrow), Some(vec![TensorType::I16]));
    }

    /// Every choice, tried out.
    fn least_sum_by_trying(kinds: &[(u64, u64)], need: u64) -> Option<u64> {
        let Some((&(size, count), others)) = kinds.split_first() else { return (need == 0).then_some(0) };
        let sums = (0..=count).filter_map(|n| {
            let rest = least_sum_by_trying(others, need.saturating_sub(n * size))?;
            Some(n * size + rest)
        });
        sums.min()
    }

    proptest! {
        #[test]
        fn the_sum_is_the_least(kinds in prop::collection::vec((1u64..50, 0u64..4), 1..5), share in 0.0f64..1.0) {
            let all: u64 = kinds.iter().map(|(size, count)| size * count).sum();
            let need = (all as f64 * share) as u64;
            let taken = least_sum(&kinds, need);
            let sum: u64 = kinds.iter().zip(&taken).map(|((size, _), taken)| size * taken).sum();
            prop_assert!(kinds.iter().zip(&taken).all(|((_, count), taken)| taken <= count));
            prop_assert_eq!(Some(sum), least_sum_by_trying(&kinds, need));
        }

        #[test]
        fn rooms_always_suffice(elements in prop::collection::vec(1u64..100_000, 1..80), share in 0.0f64..1.0) {
            let need = (elements.iter().sum::<u64>() as f64 * share) as u64;
            for manner in Manner::ALL {
                let types = choose(&elements, need, manner).unwrap();
                prop_assert!(total(&elements, &types) >= need);
            }
        }
    }
}
