//! What compressed weights are, whatever type they have in the original.

use std::collections::BTreeMap;
use std::io::{Result, Write, stdout};

use unweight::codec::Number;
use unweight::container::gguf::TensorType;

use super::progress::size;
use super::table::percent;

/// A compressed tensor.
#[derive(Debug, Clone, Copy)]
pub struct Compressed {
    /// In the original.
    pub ty: TensorType,
    /// What it is stored as.
    pub number: Number,
    /// Bytes in the original.
    pub before: u64,
    /// Bytes of home and pieces.
    pub after: u64,
}

/// "F32", or "BF16 in F32" for weights that are more than they need to be.
pub fn name(number: &str, ty: &str) -> String {
    if number == ty { ty.to_owned() } else { format!("{number} in {ty}") }
}

/// A line for each kind.
///
/// # Errors
/// If nothing can be printed.
pub fn print(tensors: impl IntoIterator<Item = Compressed>) -> Result<()> {
    let mut kinds: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    for Compressed { ty, number, before, after } in tensors {
        let [count, all_before, all_after] =
            kinds.entry((ty, number as u32, name(number.name(), ty.name()))).or_default();
        *count += 1;
        *all_before += before;
        *all_after += after;
    }
    for ((.., name), [count, before, after]) in kinds {
        let saved = percent(before.saturating_sub(after), before);
        let tensors = if count == 1 { "tensor" } else { "tensors" };
        writeln!(
            stdout(),
            "{name}: {count} {tensors}, {} -> {}, {saved} smaller",
            size(before),
            size(after)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disguises_are_named() {
        assert_eq!(name("BF16", "BF16"), "BF16");
        assert_eq!(name("BF16", "F32"), "BF16 in F32");
    }
}
