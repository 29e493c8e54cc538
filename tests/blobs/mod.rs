//! Numbers and blobs that several tests draw.

use unweight::codec::Shape;

/// Numbers drawn from a seed, the same on every machine.
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Leaves nothing but the header as it was: segments begin anywhere, escapes are where they should not be.
#[allow(dead_code)] // not every test corrupts
pub fn corrupt(mut blob: Vec<u8>, shape: Shape, seed: u64) -> Vec<u8> {
    let mut next = random(seed ^ 0xC0DE);
    let escapes = u64::from_le_bytes(blob[16..24].try_into().unwrap());
    let end = blob.len() - (2 * escapes as usize).next_multiple_of(64);
    let starts = end - (4 * shape.segments() as usize).next_multiple_of(64);
    blob[64..starts].fill_with(|| next() as u8);
    for (i, start) in (0..).zip(blob[starts..end].chunks_exact_mut(4)) {
        let value = match next() % 8 {
            0 => u32::MAX,
            1 => escapes as u32 + 1,
            2 => 0,
            _ => (escapes * i / shape.segments().max(1) + next() % 5) as u32,
        };
        start.copy_from_slice(&value.to_le_bytes());
    }
    let distances = [256, 8, 100, 40][seed as usize % 4];
    for pair in blob[end..].chunks_exact_mut(2) {
        pair.copy_from_slice(&[(next() % distances) as u8, next() as u8]);
    }
    blob
}
