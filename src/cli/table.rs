//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

pub fn new<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// Aligns the columns from `first` on.
pub fn align(table: &mut Table, first: usize, alignment: CellAlignment) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(alignment);
    }
}

/// A name out of a file, for a terminal: control characters could do anything to one.
pub fn plain(name: &str) -> String {
    name.replace(char::is_control, "?")
}

/// "29.4 %"; a part of nothing is 0.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
