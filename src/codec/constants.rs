// Sizes of docs/FORMAT.md and docs/ARCHIVE-CODES.md. Plain constants and nothing else: build.rs includes this file too, and has the C kernel check them.

/// Weights in a block.
pub const BLOCK: u64 = 64;
/// Blocks whose 3-bit codes are packed together.
pub const GROUP_BLOCKS: u64 = 8;
/// Blocks whose 6 bits, a code and 3 as they are, are packed together.
pub const GROUP6_BLOCKS: u64 = 4;
/// Most blocks in a segment of several rows.
pub const SEGMENT_BLOCKS: u64 = 64;
/// Most rows in a segment.
pub const SEGMENT_ROWS: u64 = 16;
/// Bytes of a piece's header.
pub const HEADER_BYTES: u64 = 64;
/// Bytes of a block's codes at 3 bits each.
pub const CODE3_BYTES: u64 = 24;
/// Bytes of a block's codes at 4 bits each.
pub const CODE4_BYTES: u64 = 32;
/// Bytes of a block's codes at 3 bits each, with 3 bits beside each.
pub const CODE6_BYTES: u64 = 48;
/// Weights in the longest row: no model is near it, and it bounds the memory that a reader needs.
pub const LONGEST_ROW: u64 = 1 << 20;

/// Most lanes of a stream of an archive.
pub const LANES: u64 = 64;
/// Symbols, and buckets, of a table of weights.
pub const SYMBOLS: u64 = 64;
/// Slots of a table, as a power of two.
pub const SLOT_BITS: u64 = 12;
/// Weights whose raw bits stand together.
pub const RAW_GROUP: u64 = 512;
/// Columns that are made rows of at a time: the kernels' own affair.
pub const TURNED: u64 = 16;
