//! Carrier types: which carriers have a room, and how large a one.

use std::collections::BTreeMap;

use super::gguf::TensorType;
use super::rooms::{CARRIER_TYPES, HOME_BYTES};

/// How rooms may be dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Most of them as a like share of carriers of every size: what belongs to a tensor lies near it. I16, unless that would not suffice.
    Even,
    /// I16, unless that would not suffice.
    Narrow,
    /// I64 too where that is not more than all need: few rooms, each much larger than its carrier's home. Where a tensor outweighs the rest
    /// together, or all are tiny.
    Wide,
}

impl Manner {
    /// The most desirable first.
    pub const ALL: [Self; 3] = [Self::Even, Self::Narrow, Self::Wide];
}

/// Bytes of room for each weight of a carrier that has a narrow room (I16), or a wide one (I64).
const NARROW: u64 = CARRIER_TYPES[1].1 - HOME_BYTES;
const WIDE: u64 = CARRIER_TYPES[2].1 - HOME_BYTES;

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
    let narrow = elements.iter().try_fold(0u64, |sum, &n| sum.checked_add(n.checked_mul(NARROW)?))?;
    let wide_up_to = match manner {
        _ if narrow < need => u64::MAX,
        Manner::Wide => need,
        Manner::Even | Manner::Narrow => 0,
    };
    let class = |(elements, count)| Class::new(elements, count, wide_up_to);
    let mut classes: Vec<Class> = counts.into_iter().map(class).collect();
    // Those of which there are many are used first.
    classes.sort_by_key(|class| std::cmp::Reverse((class.count, class.elements)));
    let most = classes.iter().try_fold(0u64, |sum, class| sum.checked_add(class.most()?))?;
    if most < need {
        return None;
    }
    let mut fixed = vec![0; classes.len()];
    let mut left = need;
    if manner == Manner::Even {
        let share = FIXED_SHARE * need as f64 / most.max(1) as f64;
        for (fixed, class) in fixed.iter_mut().zip(&mut classes) {
            *fixed = (class.count as f64 * share) as u64;
            class.count -= *fixed;
            left = left.saturating_sub(*fixed * class.room);
        }
    }
    let rooms = least_sum(&classes, left);
    for ((class, fixed), rooms) in classes.iter_mut().zip(fixed).zip(rooms) {
        class.count += fixed;
        class.rooms = Rooms { largest: rooms.largest + fixed, ..rooms };
    }
    Some(spread(&classes, elements))
}

/// Carriers of the same size.
#[derive(Debug, Clone)]
struct Class {
    elements: u64,
    count: u64,
    /// The type that gives the largest room that they may have, and the bytes of that.
    ty: TensorType,
    room: u64,
    rooms: Rooms,
}

/// How many carriers of a class have a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rooms {
    /// The largest that these may have.
    largest: u64,
    /// A narrow one, where the largest is a wide one: six at most, since seven are as much as one wide room.
    narrow: u64,
}

impl Class {
    /// `wide_up_to`: bytes of the largest wide room. Narrow rooms are within 64 bits.
    fn new(elements: u64, count: u64, wide_up_to: u64) -> Self {
        let wide = elements.checked_mul(WIDE).filter(|&room| room <= wide_up_to);
        let (ty, room) = match wide {
            Some(room) => (CARRIER_TYPES[2].0, room),
            None => (CARRIER_TYPES[1].0, elements * NARROW),
        };
        Self { elements, count, ty, room, rooms: Rooms::default() }
    }

    fn narrow(&self) -> u64 {
        self.elements * NARROW
    }

    /// How many narrow rooms there may be beside the largest.
    fn most_narrow(&self) -> u64 {
        (WIDE / NARROW - 1).min(if self.room > self.narrow() { self.count } else { 0 })
    }

    fn most(&self) -> Option<u64> {
        self.count.checked_mul(self.room)
    }
}

/// Which rooms to take for the least sum that is at least `need`. The first classes are used up before later ones. All of them where they
/// do not suffice.
fn least_sum(classes: &[Class], need: u64) -> Vec<Rooms> {
    let largest = classes.iter().map(|class| class.room).max().unwrap_or(0);
    let reach = need.saturating_add(largest);
    let common = classes.iter().fold(0, |common, class| gcd(common, class.narrow())).max(1);
    // In steps of what divides all sizes; in coarser ones where these are too many, sizes being rounded down.
    let step = common.max(reach / (MOST_SUMS / classes.len().max(1) as u64).max(1) + 1);
    let (need, reach) = (need.div_ceil(step) as usize, (reach / step) as usize + 1);

    // Of each class, for each sum: the fewest of its largest rooms that complete one that earlier classes have, if any do.
    let mut used = vec![vec![NONE; reach + 1]; classes.len()];
    let mut reached = vec![false; reach + 1];
    reached[0] = true;
    for (used, class) in used.iter_mut().zip(classes) {
        let size = (class.room / step) as usize;
        for sum in 0..=reach {
            if reached[sum] {
                used[sum] = 0;
            } else if size > 0 && sum >= size && u64::from(used[sum - size]) < class.count {
                used[sum] = used[sum - size] + 1;
            }
        }
        for (sum, reached) in reached.iter_mut().enumerate() {
            *reached = completing(class, used, step, sum).is_some();
        }
    }
    let Some(mut sum) = (need..=reach).find(|&sum| reached[sum]) else {
        return classes.iter().map(|class| Rooms { largest: class.count, narrow: 0 }).collect();
    };
    let mut rooms = vec![Rooms::default(); classes.len()];
    for ((rooms, used), class) in rooms.iter_mut().zip(&used).zip(classes).rev() {
        *rooms = completing(class, used, step, sum).expect("it was reached");
        sum -= rooms.largest as usize * (class.room / step) as usize;
        sum -= rooms.narrow as usize * (class.narrow() / step) as usize;
    }
    rooms
}

/// No number of rooms: more than any class has.
const NONE: u32 = u32::MAX;

/// The rooms of a class that complete a sum of earlier ones to `sum` steps, as few narrow ones as can be. `used`: how many of the largest
/// rooms alone complete each sum.
fn completing(class: &Class, used: &[u32], step: u64, sum: usize) -> Option<Rooms> {
    let narrow = (class.narrow() / step) as usize;
    (0..=class.most_narrow()).find_map(|n| {
        let largest = used[sum.checked_sub(n as usize * narrow)?];
        let fits = largest != NONE && u64::from(largest) + n <= class.count;
        fits.then_some(Rooms { largest: u64::from(largest), narrow: n })
    })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn spread(classes: &[Class], elements: &[u64]) -> Vec<TensorType> {
    let [none, narrow, _] = CARRIER_TYPES.map(|(ty, _)| ty);
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ty = |n: u64| {
        let class = classes.iter().find(|class| class.elements == n).expect("made of these");
        let number = seen.entry(n).or_insert(0);
        *number += 1;
        let Rooms { largest, narrow: others } = class.rooms;
        match share(*number, largest + others, class.count) {
            None => none,
            Some(number) if share(number, largest, largest + others).is_some() => class.ty,
            Some(_) => narrow,
        }
    };
    elements.iter().map(|&n| ty(n)).collect()
}

/// If number `number`, from 1, of `count` is one of `chosen` that are spread evenly, which of these: wherever their share comes to a whole
/// number more.
fn share(number: u64, chosen: u64, count: u64) -> Option<u64> {
    let whole = |number: u64| (u128::from(number) * u128::from(chosen) / u128::from(count)) as u64;
    (whole(number) > whole(number - 1)).then(|| whole(number))
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

    /// F32 proper needs 2.41 bytes of room for each weight: more than narrow rooms have.
    #[test]
    fn more_than_all_narrow_rooms_wastes_little() {
        // The matrices of MiniLM and MPNet: a token table, and layers; and three matrices of one size, the fewest that can be worth it.
        let layers = |table: u64, layers: usize, n: u64| {
            let layer = [n * n, n * n, n * n, n * n, 4 * n * n, 4 * n * n];
            std::iter::once(table).chain(std::iter::repeat_n(layer, layers).flatten()).collect::<Vec<u64>>()
        };
        for (elements, waste) in [
            (layers(30522 * 384, 6, 384), 0.005),
            (layers(30527 * 768, 12, 768), 0.002),
            (layers(49152 * 576, 30, 576), 0.001),
            (vec![1 << 20; 3], 0.11),
        ] {
            let all = elements.iter().sum::<u64>();
            let need = all * 241 / 100;
            for manner in Manner::ALL {
                let types = choose(&elements, need, manner).unwrap();
                let bytes = total(&elements, &types);
                assert!(bytes >= need, "{manner:?}");
                assert!((bytes - need) as f64 <= waste * need as f64, "{manner:?}: {bytes} for {need}");
            }
            // Near what they belong to: the first half of the layers has half of the room, or nearly so.
            let types = choose(&elements, need, Manner::Even).unwrap();
            let half = elements.len() / 2;
            let layers = total(&elements[1..], &types[1..]) as f64;
            let share = total(&elements[1..=half], &types[1..=half]) as f64 / layers;
            assert!(elements.len() == 3 || (0.4..0.6).contains(&share), "{share}");
        }
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
    fn least_sum_by_trying(classes: &[Class], need: u64) -> Option<u64> {
        let Some((class, others)) = classes.split_first() else { return (need == 0).then_some(0) };
        let rooms = (0..=class.count).flat_map(|all| (0..=all).map(move |largest| (largest, all - largest)));
        let sums = rooms.filter_map(|(largest, narrow)| {
            let sum = largest * class.room + narrow * class.narrow();
            Some(sum + least_sum_by_trying(others, need.saturating_sub(sum))?)
        });
        sums.min()
    }

    proptest! {
        #[test]
        fn the_sum_is_the_least(
            kinds in prop::collection::vec((1u64..50, 0u64..4), 1..5), wide_up_to in 0u64..500, share in 0.0f64..1.0,
        ) {
            let classes: Vec<_> =
                kinds.into_iter().map(|(elements, count)| Class::new(elements, count, wide_up_to)).collect();
            let all: u64 = classes.iter().map(|class| class.count * class.room).sum();
            let need = (all as f64 * share) as u64;
            let rooms = least_sum(&classes, need);
            let taken = || classes.iter().zip(&rooms);
            let sum: u64 = taken().map(|(class, rooms)| class.room * rooms.largest + class.narrow() * rooms.narrow).sum();
            prop_assert!(taken().all(|(class, rooms)| rooms.largest + rooms.narrow <= class.count));
            prop_assert_eq!(Some(sum), least_sum_by_trying(&classes, need));
        }

        #[test]
        fn rooms_always_suffice(elements in prop::collection::vec(1u64..300, 1..20), share in 0.0f64..7.0) {
            let need = (elements.iter().sum::<u64>() as f64 * share) as u64;
            for manner in Manner::ALL {
                let types = choose(&elements, need, manner).unwrap();
                prop_assert!(total(&elements, &types) >= need);
            }
        }
    }
}
