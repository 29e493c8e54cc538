//! Carrier types: how many bytes each compressed tensor pretends to have.

use super::align;
use super::gguf::TensorType;

/// Bytes per weight, narrowest first. llama.cpp has no matrix product and no row look-up for these types.
const WIDTHS: [(TensorType, u64); 3] = [(TensorType::I8, 1), (TensorType::I16, 2), (TensorType::I64, 8)];

/// A plan wastes no more than this share of the pool where I8 and I16 alone can do it.
const ACCEPTED_WASTE: f64 = 0.01;

/// A type for each tensor of `elements` weights, so that the carriers, each padded to `alignment` but for the last, hold at least
/// `pool_len` bytes, and little more. `None` if even the widest carriers are too small or sizes overflow.
///
/// I64 is used only where I8 and I16 would waste much: when one tensor outweighs the rest together, the small ones must be wide to
/// keep the large one narrow.
pub fn choose(elements: &[u64], alignment: u64, pool_len: u64) -> Option<Vec<TensorType>> {
    let narrow = fill(elements, alignment, pool_len, &WIDTHS[..2]);
    let waste = |plan: &Plan| (plan.bytes - pool_len) as f64 / pool_len.max(1) as f64;
    if let Some(plan) = &narrow
        && waste(plan) <= ACCEPTED_WASTE
    {
        return Some(plan.types(&WIDTHS));
    }
    let wide = fill(elements, alignment, pool_len, &WIDTHS);
    narrow.into_iter().chain(wide).min_by_key(|plan| plan.bytes).map(|plan| plan.types(&WIDTHS))
}

/// Bytes under carriers of the given element counts and types: what a pool may use.
pub fn capacity(carriers: impl Iterator<Item = (u64, TensorType)>, alignment: u64) -> Option<u64> {
    let mut total: u64 = 0;
    for (elements, ty) in carriers {
        total = align(total, alignment)?.checked_add(elements.checked_mul(ty.block_bytes())?)?;
    }
    Some(total)
}

struct Plan {
    /// Per tensor, a place in the list of widths.
    choice: Vec<usize>,
    bytes: u64,
}

impl Plan {
    fn types(&self, widths: &[(TensorType, u64)]) -> Vec<TensorType> {
        self.choice.iter().map(|&c| widths[c].0).collect()
    }
}

/// Starts with the narrowest carriers, widens the largest tensors as long as that stays below the pool, then closes the gap with
/// the one change that wastes least.
fn fill(elements: &[u64], alignment: u64, pool_len: u64, widths: &[(TensorType, u64)]) -> Option<Plan> {
    let mut choice = vec![0; elements.len()];
    let bytes =
        |choice: &[usize]| capacity(elements.iter().zip(choice).map(|(&n, &c)| (n, widths[c].0)), alignment);
    bytes(&vec![widths.len() - 1; elements.len()]).filter(|&most| most >= pool_len)?;

    let padded = |i: usize, c: usize| elements[i] * widths[c].1 / alignment * alignment + alignment;
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(elements[i]), i));
    let mut total = bytes(&choice)?;
    for &i in &order {
        for c in (1..widths.len()).rev() {
            let wider = total + (padded(i, c) - padded(i, 0));
            if wider <= pool_len {
                choice[i] = c;
                total = wider;
                break;
            }
        }
    }
    while bytes(&choice)? < pool_len {
        let missing = pool_len - bytes(&choice)?;
        let gain = |i: usize, c: usize| padded(i, c) - padded(i, choice[i]);
        let changes = (0..elements.len()).flat_map(|i| (choice[i] + 1..widths.len()).map(move |c| (i, c)));
        // Enough and least; or, if no single change is enough, the most.
        let (i, c) = changes.min_by_key(|&(i, c)| {
            let gain = gain(i, c);
            if gain >= missing { (false, gain) } else { (true, u64::MAX - gain) }
        })?;
        choice[i] = c;
    }
    Some(Plan { bytes: bytes(&choice)?, choice })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(elements: &[u64], types: &[TensorType], alignment: u64) -> u64 {
        capacity(elements.iter().copied().zip(types.iter().copied()), alignment).unwrap()
    }

    #[test]
    fn many_tensors_waste_little() {
        let elements: Vec<u64> = (0..200).map(|i| 2048 * (512 + 13 * i)).collect();
        let pool = elements.iter().sum::<u64>() * 141 / 100;
        let types = choose(&elements, 32, pool).unwrap();
        let bytes = total(&elements, &types, 32);
        assert!(bytes >= pool && bytes - pool < pool / 1000, "{bytes} for {pool}");
        assert!(!types.contains(&TensorType::I64));
    }

    #[test]
    fn one_dominating_tensor_stays_narrow() {
        let elements = [1_000_000, 10_000, 20_000, 30_000, 40_000, 15_000];
        let pool = elements.iter().sum::<u64>() * 141 / 100;
        let types = choose(&elements, 32, pool).unwrap();
        let bytes = total(&elements, &types, 32);
        assert_eq!(types[0], TensorType::I8);
        assert!(bytes >= pool && bytes - pool < pool / 20, "{bytes} for {pool}");
    }

    #[test]
    fn too_large_a_pool_is_refused() {
        assert_eq!(choose(&[100], 32, 801), None);
        assert_eq!(choose(&[u64::MAX], 32, 1), None);
    }

    proptest! {
        #[test]
        fn carriers_always_hold_the_pool(
            elements in prop::collection::vec(1u64..100_000, 1..40), share in 0.0f64..2.0, shift in 0u32..13,
        ) {
            let pool = (elements.iter().sum::<u64>() as f64 * share) as u64;
            let types = choose(&elements, 1 << shift, pool).unwrap();
            prop_assert!(total(&elements, &types, 1 << shift) >= pool);
        }
    }
}
