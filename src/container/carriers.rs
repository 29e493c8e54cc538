//! Carrier types: which carriers have a room, and how large a one.

use std::collections::BTreeMap;

use super::gguf::TensorType;
use super::rooms::{CARRIER_TYPES, HOME_BYTES};

/// Rooms of I64 are used where those of I16 alone would waste more than this share of what is needed: when one tensor outweighs the
/// rest together, the small ones must be wide to keep the large one narrow.
const ACCEPTED_WASTE: f64 = 0.01;

/// Most classes among which pairs of changes are tried; the time grows with their square.
const MOST_PAIRED: usize = 12;
/// Most carriers of a class that one change makes wider or narrower.
const MOST_CHANGED: i64 = 2;

/// A type for each carrier of `elements` weights, so that their rooms have at least `need` bytes together, and little more. Carriers
/// of equal size that have a room are spread evenly among those that have none. `None` if even the widest are too small.
pub fn choose(elements: &[u64], need: u64) -> Option<Vec<TensorType>> {
    let narrow = Plan::best(elements, need, 2);
    let waste = |plan: &Plan| (plan.total - need) as f64 / need.max(1) as f64;
    if let Some(plan) = &narrow
        && waste(plan) <= ACCEPTED_WASTE
    {
        return Some(plan.types(elements));
    }
    let wide = Plan::best(elements, need, CARRIER_TYPES.len());
    narrow.into_iter().chain(wide).min_by_key(|plan| plan.total).map(|plan| plan.types(elements))
}

/// Bytes of a room per weight of its carrier, by place in the list of types.
fn width(ty: usize) -> u64 {
    CARRIER_TYPES[ty].1 - HOME_BYTES
}

/// Carriers of the same size.
struct Class {
    elements: u64,
    count: u64,
    /// How many have each type that has a room.
    wide: [u64; CARRIER_TYPES.len()],
}

impl Class {
    fn may_change(&self, ty: usize, by: i64) -> bool {
        let all: u64 = self.wide.iter().sum();
        self.wide[ty].checked_add_signed(by).is_some()
            && all.checked_add_signed(by).is_some_and(|all| all <= self.count)
    }
}

/// How many carriers of each class have a room of each type.
struct Plan {
    classes: Vec<Class>,
    total: u64,
}

/// So many more carriers (or fewer) of one class have a type.
#[derive(Clone, Copy)]
struct Change {
    class: usize,
    ty: usize,
    by: i64,
}

impl Plan {
    /// From a share of every class, and from none, by changes that lead nearer to `need`. `types`: how many of the list may be used.
    fn best(elements: &[u64], need: u64, types: usize) -> Option<Self> {
        let all = elements.iter().try_fold(0u64, |sum, &n| sum.checked_add(n))?;
        all.checked_mul(width(types - 1)).filter(|&most| most >= need)?;
        let share = need as f64 / all.max(1) as f64;
        let mut plans = [Self::start(elements, share.min(1.0)), Self::start(elements, 0.0)];
        for plan in &mut plans {
            plan.approach(need, types);
        }
        plans.into_iter().filter(|plan| plan.total >= need).min_by_key(|plan| plan.total)
    }

    fn start(elements: &[u64], share: f64) -> Self {
        let mut counts = BTreeMap::new();
        for &n in elements {
            *counts.entry(n).or_insert(0u64) += 1;
        }
        let class = |(elements, count): (u64, u64)| {
            let mut wide = [0; CARRIER_TYPES.len()];
            wide[1] = ((count as f64 * share).round() as u64).min(count);
            Class { elements, count, wide }
        };
        // Largest first.
        let classes: Vec<_> = counts.into_iter().rev().map(class).collect();
        let total = classes.iter().map(|class| class.elements * class.wide[1]).sum();
        Self { classes, total }
    }

    /// Makes the best change, or pair of changes, until none is better.
    fn approach(&mut self, need: u64, types: usize) {
        // Enough and least; as long as it is not enough, most.
        let cost = |total: i128| (total < i128::from(need), (total - i128::from(need)).abs());
        let mut now = cost(i128::from(self.total));
        loop {
            let changes = self.changes(types);
            let plan = &*self;
            let by = |change: Change| {
                i128::from(change.by) * i128::from(plan.classes[change.class].elements * width(change.ty))
            };
            let total = i128::from(plan.total);
            let alone = changes.iter().map(|&change| (cost(total + by(change)), change, None));
            let near: Vec<_> =
                changes.iter().copied().filter(|change| plan.is_paired(change.class)).collect();
            let pair = |(i, &a): (usize, &Change)| {
                near[i + 1..]
                    .iter()
                    .filter(move |b| (a.class, a.ty) != (b.class, b.ty))
                    .map(move |&b| (cost(total + by(a) + by(b)), a, Some(b)))
                    .collect::<Vec<_>>()
            };
            let pairs = near.iter().enumerate().flat_map(pair);
            let fits = |a: &Change, b: &Option<Change>| match b {
                Some(b) if b.class == a.class => plan.classes[a.class].may_change(a.ty, a.by + b.by),
                _ => true,
            };
            let best = alone.chain(pairs).filter(|(_, a, b)| fits(a, b)).min_by_key(|&(cost, ..)| cost);
            let Some((cost, a, b)) = best.filter(|&(cost, ..)| cost < now) else { return };
            now = cost;
            for change in [Some(a), b].into_iter().flatten() {
                let class = &mut self.classes[change.class];
                class.wide[change.ty] = class.wide[change.ty].wrapping_add_signed(change.by);
            }
            self.total = self.classes.iter().map(room_bytes).sum();
        }
    }

    fn is_paired(&self, class: usize) -> bool {
        class < MOST_PAIRED / 2 || class + MOST_PAIRED / 2 >= self.classes.len()
    }

    fn changes(&self, types: usize) -> Vec<Change> {
        let steps = || (-MOST_CHANGED..=MOST_CHANGED).filter(|&by| by != 0);
        let places = (0..self.classes.len()).flat_map(|class| (1..types).map(move |ty| (class, ty)));
        places
            .flat_map(|(class, ty)| steps().map(move |by| Change { class, ty, by }))
            .filter(|change| self.classes[change.class].may_change(change.ty, change.by))
            .collect()
    }

    fn types(&self, elements: &[u64]) -> Vec<TensorType> {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let mut of = |n: u64| {
            let number = seen.entry(n).or_insert(0);
            let class = self.classes.iter().find(|class| class.elements == n).expect("made of these");
            // Whether the so-manieth of `count` is one of `some` that are spread evenly, and how many of those came before it.
            let spread = |number: u64, some: u64, count: u64| {
                let before = number * some / count.max(1);
                ((number + 1) * some / count.max(1) > before).then_some(before)
            };
            let all = class.wide.iter().sum();
            let ty = match spread(*number, all, class.count) {
                None => 0,
                Some(before) if spread(before, class.wide[2], all).is_some() => 2,
                Some(_) => 1,
            };
            *number += 1;
            CARRIER_TYPES[ty].0
        };
        elements.iter().map(|&n| of(n)).collect()
    }
}

fn room_bytes(class: &Class) -> u64 {
    (0..CARRIER_TYPES.len()).map(|ty| class.elements * width(ty) * class.wide[ty]).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(elements: &[u64], types: &[TensorType]) -> u64 {
        let of = |ty: TensorType| CARRIER_TYPES.iter().position(|&(carrier, _)| carrier == ty).unwrap();
        elements.iter().zip(types).map(|(n, &ty)| n * width(of(ty))).sum()
    }

    #[test]
    fn many_tensors_waste_little() {
        let elements: Vec<u64> = (0..200).map(|i| 2048 * (512 + 13 * i)).collect();
        let need = elements.iter().sum::<u64>() * 41 / 100;
        let types = choose(&elements, need).unwrap();
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
        let types = choose(&elements, need).unwrap();
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
        let types = choose(&elements, need).unwrap();
        let bytes = total(&elements, &types);
        assert_eq!(types[0], TensorType::I8);
        assert!(bytes >= need && bytes - need < need / 10, "{bytes} for {need}");
    }

    #[test]
    fn too_large_a_need_is_refused() {
        assert_eq!(choose(&[100], 701), None);
        assert_eq!(choose(&[u64::MAX, 2], 1), None);
        assert_eq!(choose(&[], 1), None);
    }

    proptest! {
        #[test]
        fn rooms_always_suffice(elements in prop::collection::vec(1u64..100_000, 1..80), share in 0.0f64..7.0) {
            let need = (elements.iter().sum::<u64>() as f64 * share) as u64;
            let types = choose(&elements, need).unwrap();
            prop_assert!(total(&elements, &types) >= need);
        }
    }
}
