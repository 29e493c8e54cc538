//! Files whose checksums are right although what they stand for was changed: what only a forger makes, and chance never.
//!
//! The first byte chooses a file; then every seven bytes are a change: of what, where (two bytes, modulo), how, by how much (three).

use unweight::container::archive::TENSOR;
use unweight::container::gguf::Gguf;
use xxhash_rust::xxh3::xxh3_64;

use super::file;
use crate::memory_file::MemoryFile;
use crate::samples;

const CHANGE: usize = 7;

pub fn run(data: &[u8]) {
    let Some((&chosen, changes)) = data.split_first() else { return };
    let files = samples::converted();
    let mut forged = files[usize::from(chosen) % files.len()].clone();
    forge(&mut forged, changes);
    file::give_back(&MemoryFile::of(&forged).path());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let changes = |chosen: u8| {
        let len = CHANGE * random.usize(1..5);
        std::iter::once(chosen).chain(std::iter::repeat_with(|| random.u8(..)).take(len)).collect()
    };
    (0..64).map(|i| i % samples::converted().len() as u8).map(changes).collect()
}

/// Applies the changes, and makes the checksums right again that do not stand for weights.
fn forge(file: &mut [u8], changes: &[u8]) {
    let gguf = Gguf::parse(file).expect("a seed");
    let archive = gguf.tensor(TENSOR).map(|tensor| {
        let start = gguf.position(tensor) as usize;
        (start, start + tensor.len as usize)
    });
    let rooms: Vec<usize> = find_all(file, b"UNWEIGHT");
    let whole = file.len();
    for change in changes.chunks_exact(CHANGE) {
        let [what, at_low, at_high, how, a, b, c] = std::array::from_fn(|i| change[i]);
        let (from, len) = match archive {
            Some((start, end)) => {
                let index = number(file, start + 16) as usize;
                let index = start.saturating_add(index).clamp(start, end);
                match what % 4 {
                    0 => (index, end - index),
                    1 => (start + 64, 256.min(end - start - 64)),
                    2 => (start + 64, end - start - 64),
                    _ => (start, 56),
                }
            }
            None => {
                let room = rooms[usize::from(what / 4) % rooms.len()];
                let index = (number(file, room + 32) as usize).min(whole - room - 64);
                match what % 4 {
                    0 | 1 if index > 0 => (room + 64, index),
                    2 => (room, 56),
                    _ => (room + 64, whole - room - 64),
                }
            }
        };
        if len == 0 {
            continue;
        }
        let at = from + usize::from(u16::from_le_bytes([at_low, at_high])) % len;
        let width = [1, 2, 4, 8][usize::from(how % 4)].min(from + len - at);
        let old = (0..width).rev().fold(0u64, |value, i| value << 8 | u64::from(file[at + i]));
        let amount = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let new = match how / 4 % 6 {
            0 => old.wrapping_add(amount),
            1 => old.wrapping_sub(amount),
            2 => old ^ 1 << (a % 64),
            3 => u64::MAX.wrapping_sub(amount),
            4 => amount,
            _ => whole as u64,
        };
        file[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    }
    match archive {
        Some((start, end)) => seal_archive(&mut file[start..end]),
        None => rooms.iter().for_each(|&room| seal_room(&mut file[room..])),
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn find_all(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| bytes[at..].starts_with(text)).collect()
}

fn seal_room(room: &mut [u8]) {
    let index = usize::try_from(number(room, 32)).ok().and_then(|len| room[64..].get(..len));
    if let Some(index) = index.filter(|index| !index.is_empty()) {
        put(room, 40, xxh3_64(index));
    }
    put(room, 56, xxh3_64(&room[..56]));
}

fn seal_archive(tensor: &mut [u8]) {
    let index = usize::try_from(number(tensor, 16)).ok().and_then(|at| tensor.get(at..));
    if let Some(index) = index {
        put(tensor, 32, xxh3_64(index));
    }
    put(tensor, 56, xxh3_64(&tensor[..56]));
}
