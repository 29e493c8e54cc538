//! Small changes of seeds, the same for the same seed of chance: for runs without a fuzzer that searches.

/// Values at the edges of what fields may hold.
const EDGES: [u64; 12] =
    [0, 1, 63, 64, 255, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 32, i64::MAX as u64, u64::MAX - 31, u64::MAX];

/// One to eight changes: bits, bytes, numbers at edges or one off, copies, cuts.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..1 << random.u32(..4) {
        if bytes.is_empty() {
            bytes.extend((0..random.usize(1..64)).map(|_| random.u8(..)));
            continue;
        }
        // Headers are short and matter most.
        let reach = if random.bool() { bytes.len() } else { bytes.len().min(512) };
        let at = random.usize(..reach);
        let width = [1, 2, 4, 8][random.usize(..4)].min(bytes.len() - at);
        let field =
            bytes[at..at + width].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let value = match random.u32(..9) {
            0 => field ^ 1 << random.usize(..8 * width),
            1 => random.u64(..),
            2 => EDGES[random.usize(..EDGES.len())],
            3 => field.wrapping_add(random.u64(1..65)),
            4 => field.wrapping_sub(random.u64(1..65)),
            5 => (bytes.len() as u64).wrapping_add(random.u64(..9)).wrapping_sub(4),
            6 => {
                let (from, len) = (random.usize(..bytes.len()), random.usize(..65));
                let len = len.min(bytes.len() - from).min(bytes.len() - at);
                bytes.copy_within(from..from + len, at);
                continue;
            }
            7 => {
                bytes.truncate(bytes.len() - random.usize(..bytes.len().min(64)));
                continue;
            }
            _ => {
                let (from, len) = (random.usize(..bytes.len()), random.usize(..65));
                let copy = bytes[from..bytes.len().min(from + len)].to_vec();
                bytes.splice(at..at, copy);
                continue;
            }
        };
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}
