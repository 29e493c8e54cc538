//! What could be gained from quantized weights, which stay as they are.

use std::io::{Result, Write, stdout};

use unweight::container::gguf::Gguf;

use super::progress::size;

/// Per type, the share of its bytes that an ideal coder could take off, in per cent: measured, see docs/QUANTIZED.md.
const GAIN_AT_BEST: [(&str, f64); 6] =
    [("Q8_0", 6.2), ("Q6_K", 4.5), ("Q5_K", 4.4), ("Q4_K", 5.3), ("Q4_0", 9.0), ("MXFP4", 8.9)];

/// Tensors of each of these types, and their bytes.
#[derive(Default)]
pub struct Counts([(u64, u64); GAIN_AT_BEST.len()]);

impl Counts {
    /// Of one more file.
    pub fn add(&mut self, gguf: &Gguf) {
        for ((name, _), (count, bytes)) in GAIN_AT_BEST.iter().zip(&mut self.0) {
            for tensor in gguf.tensors.iter().filter(|tensor| tensor.ty.name() == *name) {
                (*count, *bytes) = (*count + 1, *bytes + tensor.len);
            }
        }
    }

    /// A line for each type that there is.
    ///
    /// # Errors
    /// If nothing can be printed.
    pub fn print(&self) -> Result<()> {
        for ((name, gain), (count, bytes)) in GAIN_AT_BEST.into_iter().zip(self.0) {
            if count > 0 {
                let stay = if count == 1 { "tensor stays as it is" } else { "tensors stay as they are" };
                writeln!(
                    stdout(),
                    "{name}: {count} {stay}, {}; some {gain:.0} % could be gained, and are by --archive",
                    size(bytes)
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_same_numbers() {
        let document = include_str!("../../docs/QUANTIZED.md");
        let rows = document.lines().filter(|line| line.contains('|') && line.contains('%'));
        let found: Vec<_> = rows
            .map(|row| {
                let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
                let gain = cells.last().unwrap().trim_end_matches(" %").parse().unwrap();
                (cells[0], gain)
            })
            .collect();
        assert_eq!(found, GAIN_AT_BEST);
    }
}
