//! `convert` and `restore` in memory, with the oracle as the decoder.

use std::error::Error;
use std::ops::Range;

use unweight::codec::{Analysis, Chunk, Encoder, Encoding, PieceBuilder, oracle};
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorInfo};
use unweight::container::layout::{Layout, LayoutError, Need};
use unweight::container::parts::{Part, parts};
use unweight::container::restored::{Restored, Tensor};
use unweight::container::rooms::{
    Entry, FileId, Filling, Free, HEADER_BYTES, Index, Piece, Remainder, Room, RoomHeader, Stored, room_bytes,
};
use unweight::container::{number, shape};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Stands in for the BLAKE3 of the original, which only the program looks at.
const BLAKE3: [u8; 32] = [7; 32];

/// No test file has more bytes outside its header and tensors, for each byte that its converted file has.
const MOST_BETWEEN: usize = 8;

/// How a tensor is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    pub encoding: Encoding,
    /// True if its carrier may be left out.
    pub optional: bool,
}

pub const PALETTE8: Coding = Coding { encoding: Encoding::Bf16Palette8, optional: false };
pub const PALETTE16: Coding = Coding { encoding: Encoding::Bf16Palette16, optional: false };

/// A coded tensor that has no place yet.
struct Coded {
    encoder: Encoder,
    chunk: Chunk,
    need: Need,
    /// What it needs indeed, as one piece.
    rest: u64,
}

impl Coded {
    fn new(gguf: &Gguf, tensor: &TensorInfo, coding: Coding) -> Self {
        let weights = gguf.bytes(tensor);
        let shape = shape(&tensor.dims).unwrap();
        let encoder =
            Encoder::forced(&Analysis::of(number(tensor.ty).unwrap(), weights), shape, coding.encoding)
                .unwrap();
        let need =
            Need { rest: encoder.expected_rest(), segments: shape.segments(), optional: coding.optional };
        let (chunk, rest) = (encoder.encode(weights), encoder.whole(weights).1.len() as u64);
        Self { encoder, chunk, need, rest }
    }
}

/// The converted file of `original`, each tensor coded as `codings` says.
pub fn convert(original: &[u8], codings: &[Option<Coding>]) -> Result<Vec<u8>, LayoutError> {
    let gguf = Gguf::parse(original).unwrap();
    let tensors = gguf.tensors.iter().zip(codings);
    let coded: Vec<_> =
        tensors.map(|(tensor, coding)| coding.map(|coding| Coded::new(&gguf, tensor, coding))).collect();
    let frame = remainder(&gguf);
    let measured = |coded: &Coded| Need { rest: coded.rest, ..coded.need };
    for (attempt, margin) in [0.0, 1.0 / 8192.0, 1.0 / 512.0, 1.0 / 32.0, 1.0 / 2.0].into_iter().enumerate() {
        let need = |coded: &Coded| if attempt == 0 { coded.need } else { measured(coded) };
        let needs: Vec<_> = coded.iter().map(|coded| coded.as_ref().map(need)).collect();
        let layout = Layout::plan(&gguf, &needs, frame.len() as u64, margin, "test")?;
        if let Some(file) = write(&gguf, &coded, &frame, &layout) {
            return Ok(file);
        }
    }
    panic!("the rooms are too small");
}

/// A frame of the bytes that belong to nothing else; empty where they are all zero.
fn remainder(gguf: &Gguf) -> Vec<u8> {
    let extents: Vec<_> = gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.len)).collect();
    let parts = parts(gguf.header_len, gguf.alignment, &extents, gguf.file().len() as u64).unwrap();
    let gaps = parts.into_iter().filter(|(part, _)| *part == Part::Gap);
    let bytes: Vec<u8> =
        gaps.flat_map(|(_, range)| &gguf.file()[range.start as usize..range.end as usize]).copied().collect();
    if bytes.iter().all(|&byte| byte == 0) { Vec::new() } else { zstd::encode_all(&bytes[..], 0).unwrap() }
}

/// The file as it is laid out; `None` if the rooms are too small.
fn write(gguf: &Gguf, coded: &[Option<Coded>], frame: &[u8], layout: &Layout) -> Option<Vec<u8>> {
    let mut file = vec![0; layout.file_len as usize];
    put(&mut file, 0, &layout.header);
    let mut filling = Filling::new(&layout.rooms, layout.index_len);
    let remainder = if frame.is_empty() { None } else { Some(whole(&mut filling, frame.len() as u64)?) };
    if let Some(free) = remainder {
        put(&mut file, layout.rooms[free.room].position + free.offset, frame);
    }
    let mut pieces = vec![Vec::new(); coded.len()];
    for (i, coded) in coded.iter().enumerate() {
        if let Some(coded) = coded {
            put(&mut file, layout.positions[i], coded.chunk.low());
            pieces[i] = fill(&mut file, layout, &mut filling, coded)?;
        }
    }
    for (i, tensor) in gguf.tensors.iter().enumerate().filter(|&(i, _)| coded[i].is_none()) {
        put(&mut file, layout.positions[i], gguf.bytes(tensor));
    }
    let remainder = remainder.map(|free| Remainder {
        room: free.room as u32,
        offset: free.offset,
        len: frame.len() as u64,
        xxh3: xxh3_64(frame),
    });
    let entry = |((tensor, coded), pieces): ((&TensorInfo, &Option<Coded>), _)| {
        let &TensorInfo { name, ty, dims, offset, len } = tensor;
        let stored = coded
            .as_ref()
            .map_or(Stored::Plain, |coded| Stored::Coded { encoding: coded.encoder.encoding.id(), pieces });
        Entry { name: name.to_owned(), ty, dims, offset, len, xxh3: xxh3_64(gguf.bytes(tensor)), stored }
    };
    let index = Index {
        original_len: gguf.file().len() as u64,
        original_blake3: BLAKE3,
        metadata_len: gguf.metadata_len,
        metadata_xxh3: xxh3_64(&gguf.file()[..gguf.metadata_len as usize]),
        remainder,
        rooms: Vec::new(),
        entries: gguf.tensors.iter().zip(coded).zip(pieces).map(entry).collect(),
    };
    write_rooms(&mut file, layout, index);
    Some(file)
}

fn put(file: &mut [u8], position: u64, bytes: &[u8]) {
    file[position as usize..][..bytes.len()].copy_from_slice(bytes);
}

/// Space for so many bytes in one room.
fn whole(filling: &mut Filling, len: u64) -> Option<Free> {
    loop {
        let free = filling.free()?;
        if free.len >= len {
            filling.take(free, len);
            return Some(free);
        }
        filling.leave();
    }
}

/// Puts pieces of a tensor into rooms, as many as it takes; `None` if they are full.
fn fill(file: &mut [u8], layout: &Layout, filling: &mut Filling, coded: &Coded) -> Option<Vec<Piece>> {
    let Coded { encoder, chunk, .. } = coded;
    let (mut pieces, mut from) = (Vec::new(), 0);
    while from < chunk.segments() {
        let free = filling.free()?;
        let mut builder = PieceBuilder::new(encoder);
        let fit = builder.fits(chunk, from, free.len);
        if fit > 0 {
            let position = layout.rooms[free.room].position + free.offset;
            let (at, codes) = builder.take(chunk, from..from + fit);
            put(file, position + at, codes);
            let finished = builder.finish();
            for (at, part) in &finished.parts {
                put(file, position + at, part);
            }
            filling.take(free, finished.len);
            let (room, offset) = (free.room as u32, free.offset);
            pieces.push(Piece { rows: finished.rows, room, offset, len: finished.len });
            from += fit;
        }
        if from < chunk.segments() {
            filling.leave();
        }
    }
    Some(pieces)
}

/// The headers of the rooms, and the index in the first.
fn write_rooms(file: &mut [u8], layout: &Layout, mut index: Index) {
    let empty = Room { carrier: 0, len: 0, xxh3: 0 };
    let index_len = Index { rooms: vec![empty; layout.rooms.len()], ..index.clone() }.to_bytes().len() as u64;
    assert!(index_len <= layout.index_len, "{index_len} bytes, {} are kept free", layout.index_len);
    for (number, space) in layout.rooms.iter().enumerate() {
        let taken = HEADER_BYTES + if number == 0 { index_len } else { 0 };
        let xxh3 = xxh3_64(&file[(space.position + taken) as usize..(space.position + space.len) as usize]);
        index.rooms.push(Room { carrier: space.carrier as u32, len: space.len, xxh3 });
    }
    let bytes = index.to_bytes();
    let id = FileId(xxh3_128(&bytes).to_le_bytes());
    for (number, space) in (0..).zip(&layout.rooms) {
        let (index_len, index_xxh3) = if number == 0 { (index_len, xxh3_64(&bytes)) } else { (0, 0) };
        put(file, space.position, &RoomHeader { number, id, index_len, index_xxh3 }.to_bytes());
    }
    put(file, layout.rooms[0].position + HEADER_BYTES, &bytes);
}

/// What a converted file gives back.
pub fn restore(file: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    restore_shard(file, &[])
}

/// What a converted file gives back whose rooms may be in others.
pub fn restore_shard(file: &[u8], others: &[&[u8]]) -> Result<Vec<u8>, Box<dyn Error>> {
    let others = others.iter().map(|other| Gguf::parse(other)).collect::<Result<Vec<_>, _>>()?;
    let converted = Converted::open(Gguf::parse(file)?, &others)?;
    let restored = Restored::of(&converted)?;
    let gaps = restored.parts.iter().filter(|(part, _)| *part == Part::Gap);
    let between = gaps.map(|(_, range)| range.end - range.start).sum::<u64>() as usize;
    if between > MOST_BETWEEN * file.len() {
        return Err("too many bytes between the tensors".into());
    }
    let between = bytes_between(&converted, &restored, between)?;
    let (mut left, mut out) = (&between[..], Vec::new());
    for (part, range) in &restored.parts {
        match *part {
            Part::Header => out.extend_from_slice(&restored.header),
            Part::Tensor(i) => out.extend(tensor(&converted, &restored.tensors[i])?),
            Part::Gap => {
                let (gap, behind) = left
                    .split_at_checked((range.end - range.start) as usize)
                    .ok_or("too few bytes for what is between the tensors")?;
                out.extend_from_slice(gap);
                left = behind;
            }
        }
        assert_eq!(out.len() as u64, range.end, "parts in file order");
    }
    assert_eq!(out.len() as u64, restored.len);
    if left.is_empty() { Ok(out) } else { Err("too many bytes for what is between the tensors".into()) }
}

/// All bytes that belong to nothing else, `count` where they are zeros.
fn bytes_between(
    converted: &Converted,
    restored: &Restored,
    count: usize,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let zeros = || Ok(vec![0; count]);
    let Some(index) = restored.original else { return zeros() };
    let Some(remainder) = index.remainder else { return zeros() };
    let frame = converted.remainder(index)?;
    if xxh3_64(frame) != remainder.xxh3 {
        return Err("the bytes between the tensors are damaged".into());
    }
    Ok(zstd::decode_all(frame)?)
}

fn tensor(converted: &Converted, tensor: &Tensor) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = match converted.locate(tensor.name)? {
        None => converted.gguf.bytes(converted.gguf.tensor(tensor.name).unwrap()).to_vec(),
        Some(located) => {
            let encoding = Encoding::from_id(located.encoding).ok_or("an unknown encoding")?;
            let original = number(tensor.ty).ok_or("a type that no encoding is for")?;
            oracle::decode(located.home, &located.pieces, encoding, original, tensor.dims.row())?
        }
    };
    if bytes.len() as u64 != tensor.len {
        return Err("the tensor has another type than its encoding is for".into());
    }
    match tensor.xxh3 {
        Some(xxh3) if xxh3_64(&bytes) != xxh3 => Err("the tensor is damaged".into()),
        _ => Ok(bytes),
    }
}

/// Where the rooms of a file are, by their numbers.
pub fn rooms(file: &[u8]) -> Vec<Range<usize>> {
    let gguf = Gguf::parse(file).unwrap();
    let mut rooms = Vec::new();
    for tensor in &gguf.tensors {
        let end = (gguf.position(tensor) + tensor.len) as usize;
        let start = end - room_bytes(tensor.ty, &tensor.dims).unwrap_or(0) as usize;
        if let Some(header) = RoomHeader::parse(&file[start..end]).unwrap() {
            rooms.push((header.number, start..end));
        }
    }
    rooms.sort_by_key(|&(number, _)| number);
    rooms.into_iter().map(|(_, room)| room).collect()
}

/// Makes the checksums of a room's header, and of an index in it, right again.
pub fn seal(room: &mut [u8]) {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| room[at + i]));
    let index = usize::try_from(number(32)).ok().and_then(|len| room[64..].get(..len));
    if let Some(index) = index.filter(|index| !index.is_empty()) {
        let xxh3 = xxh3_64(index);
        room[40..48].copy_from_slice(&xxh3.to_le_bytes());
    }
    let header = xxh3_64(&room[..56]);
    room[56..64].copy_from_slice(&header.to_le_bytes());
}

/// Changes the index in a room that has it, whose checksums are right afterwards.
pub fn change_index(room: &mut [u8], change: impl FnOnce(&mut Index)) {
    let header = RoomHeader::parse(room).unwrap().unwrap();
    let mut index = Index::parse(&header, room).unwrap();
    change(&mut index);
    let bytes = index.to_bytes();
    room[64..64 + bytes.len()].copy_from_slice(&bytes);
    let header = RoomHeader { index_len: bytes.len() as u64, index_xxh3: xxh3_64(&bytes), ..header };
    room[..64].copy_from_slice(&header.to_bytes());
}
