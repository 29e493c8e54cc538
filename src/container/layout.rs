//! Where everything stands in a converted file.

use thiserror::Error;

use super::align;
use super::carriers::{self, Manner};
use super::gguf::value::{push_string, push_u32};
use super::gguf::{Gguf, MAGIC, TensorType, push_info};
use super::rooms::{
    CARRIER_TYPES, Filling, HEADER_BYTES, ROOM_AND_PIECE_BYTES, Space, VERSION, index_bytes, room_bytes,
};

pub(super) const KEY_VERSION: &str = "unweight.version";
const KEY_WRITER: &str = "unweight.writer";
const KEY_PADDING: &str = "unweight.padding";

/// The keys of a converted file that its original does not have.
pub const KEYS: [&str; 3] = [KEY_VERSION, KEY_WRITER, KEY_PADDING];

/// Carriers begin at multiples of this in the file, so that the blocks of their homes do.
const HOME_ALIGNMENT: u64 = 64;

/// What a tensor needs of rooms, as far as it is known before it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes that are expected of all that is not home.
    pub rest: u64,
    /// Into how many segments that can be cut.
    pub segments: u64,
    /// True if llama.cpp may leave the tensor out: its carrier has no room then, for others to miss, unless there are no others.
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    #[error("no tensor of this file gains from compression")]
    NothingToCompress,
    #[error("it has a key {0:?} already")]
    Key(&'static str),
    #[error("sizes beyond 64 bits")]
    Overflow,
    #[error("its matrices are too small to hold what has to be written about them")]
    TooSmall,
}

/// Where each part of a converted file goes. Positions count from the start of the file, in bytes.
#[derive(Debug)]
pub struct Layout {
    /// The file up to its data section, padding included.
    pub header: Vec<u8>,
    /// Per tensor of the original, where its bytes, or its carrier, begin.
    pub positions: Vec<u64>,
    /// In the order in which they are filled; the index is in the first.
    pub rooms: Vec<Space>,
    /// Bytes kept free for the index.
    pub index_len: u64,
    pub file_len: u64,
}

impl Layout {
    /// Lays out the converted file of `original`: `needs` has one entry per tensor, `None` for one that stays plain; `writer` names
    /// the program. Rooms suffice for what the tensors are expected to need, and a share of `margin` more.
    ///
    /// # Errors
    /// If nothing is compressed, sizes overflow, or the carriers cannot hold all.
    pub fn plan(
        original: &Gguf,
        needs: &[Option<Need>],
        remainder_len: u64,
        margin: f64,
        writer: &str,
    ) -> Result<Self, LayoutError> {
        assert_eq!(needs.len(), original.tensors.len(), "one need per tensor");
        if let Some(key) = KEYS.into_iter().find(|key| original.kv(key).is_some()) {
            return Err(LayoutError::Key(key));
        }
        if needs.iter().all(Option::is_none) {
            return Err(LayoutError::NothingToCompress);
        }
        let needs: Vec<_> = needs.iter().map(|need| need.map(|need| need.with_margin(margin))).collect();
        let tensors = original.tensors.iter().zip(&needs);
        let index_base =
            index_bytes(tensors.map(|(tensor, need)| (tensor.name, &tensor.dims, need.is_some())));
        let plan = RoomPlan { original, needs: &needs, index_base, remainder_len };
        let types = plan.types()?;
        let order = file_order(original, &types)?;
        let (header, positions, file_len) = place(original, &types, &order, writer)?;
        let rooms = plan.rooms(&types, &order, Some(&positions))?;
        let index_len = plan.index_len(rooms.len());
        Ok(Self { header, positions, rooms, index_len, file_len })
    }
}

impl Need {
    fn with_margin(self, margin: f64) -> Self {
        Self { rest: (self.rest as f64 * (1.0 + margin)).ceil() as u64, ..self }
    }
}

/// What a piece costs beside its segments: its header, and what on average fills up its three regions.
const PIECE_OVERHEAD: u64 = HEADER_BYTES + 3 * 32;

/// The choice of carrier types.
struct RoomPlan<'a> {
    original: &'a Gguf<'a>,
    needs: &'a [Option<Need>],
    /// Bytes of an index without rooms, each carrier having one piece.
    index_base: u64,
    remainder_len: u64,
}

/// Per tensor of the original, the type of its carrier; `None` for a plain tensor.
type Types = [Option<TensorType>];

/// A manner of dealing out rooms that is less desirable is taken where the file is smaller by more than this share.
const WORTH: f64 = 0.0002;

impl RoomPlan<'_> {
    /// The types that make the file smallest.
    fn types(&self) -> Result<Vec<Option<TensorType>>, LayoutError> {
        let mut best: Option<(u64, Vec<Option<TensorType>>)> = None;
        for manner in Manner::ALL {
            let types = match self.types_in(manner) {
                Err(LayoutError::TooSmall) => continue,
                types => types?,
            };
            let bytes = (0..types.len()).map(|i| bytes_of(self.original, &types, i));
            let bytes: u64 = bytes.sum::<Result<u64, _>>()?;
            if best.as_ref().is_none_or(|(least, _)| (bytes as f64) < *least as f64 * (1.0 - WORTH)) {
                best = Some((bytes, types));
            }
        }
        best.map(|(_, types)| types).ok_or(LayoutError::TooSmall)
    }

    fn types_in(&self, manner: Manner) -> Result<Vec<Option<TensorType>>, LayoutError> {
        let narrow = CARRIER_TYPES[0].0;
        let mut types: Vec<_> = self.needs.iter().map(|need| need.map(|_| narrow)).collect();
        // A file of nothing but tensors that may be left out is loaded for them.
        let only_optional = self.needs.iter().flatten().all(|need| need.optional);
        let has_room = |need: &Option<Need>| need.is_some_and(|need| only_optional || !need.optional);
        let members: Vec<_> = (0..types.len()).filter(|&i| has_room(&self.needs[i])).collect();
        let elements: Vec<_> = members.iter().map(|&i| self.elements(i)).collect::<Result<_, _>>()?;
        let mut need = self.needs.iter().flatten().map(|need| need.rest).fold(0, u64::saturating_add);
        loop {
            let chosen = carriers::choose(&elements, need, manner).ok_or(LayoutError::TooSmall)?;
            for (&i, ty) in members.iter().zip(chosen) {
                types[i] = Some(ty);
            }
            self.make_space_for_index(&members, &mut types)?;
            let missing = self.missing(&types)?;
            if missing == 0 {
                return Ok(types);
            }
            let total = members.iter().try_fold(0u64, |sum, &i| sum.checked_add(self.room_len(i, types[i])));
            need =
                total.and_then(|total| total.max(need).checked_add(missing)).ok_or(LayoutError::Overflow)?;
        }
    }

    fn elements(&self, tensor: usize) -> Result<u64, LayoutError> {
        self.original.tensors[tensor].dims.elements().ok_or(LayoutError::Overflow)
    }

    /// Bytes behind the home; 0 for a plain tensor, or beyond 64 bits.
    fn room_len(&self, tensor: usize, ty: Option<TensorType>) -> u64 {
        ty.and_then(|ty| room_bytes(ty, &self.original.tensors[tensor].dims)).unwrap_or(0)
    }

    /// Bytes of the index with so many rooms, at most: each ends inside a tensor, which then has one piece more.
    fn index_len(&self, rooms: usize) -> u64 {
        self.index_base + rooms as u64 * ROOM_AND_PIECE_BYTES
    }

    fn holds_index(&self, room_len: u64, rooms: usize) -> bool {
        room_len >= HEADER_BYTES + self.index_len(rooms) + PIECE_OVERHEAD
    }

    /// Gives one of some carriers the smallest room that can hold the index if none has one that can.
    fn make_space_for_index(&self, members: &[usize], types: &mut Types) -> Result<(), LayoutError> {
        let order = file_order(self.original, types)?;
        let rooms = self.rooms(types, &order, None)?;
        if rooms.iter().any(|room| self.holds_index(room.len, rooms.len())) {
            return Ok(());
        }
        let wide =
            members.iter().flat_map(|&i| CARRIER_TYPES.map(|(ty, _)| (self.room_len(i, Some(ty)), i, ty)));
        let holds_index = |len| self.holds_index(len, rooms.len() + 1);
        let smallest = wide.filter(|&(len, ..)| holds_index(len)).min_by_key(|&(len, i, _)| (len, i));
        let (_, i, ty) = smallest.ok_or(LayoutError::TooSmall)?;
        types[i] = Some(ty);
        Ok(())
    }

    /// Rooms in the order in which they are filled: first the one with the index. `positions`: where the carriers begin, if that is known.
    fn rooms(
        &self,
        types: &Types,
        order: &[usize],
        positions: Option<&[u64]>,
    ) -> Result<Vec<Space>, LayoutError> {
        let mut rooms = Vec::new();
        for &carrier in order {
            if self.needs[carrier].is_none() {
                continue;
            }
            let len = self.room_len(carrier, types[carrier]);
            if len >= HEADER_BYTES {
                let home =
                    positions.map_or(0, |positions| positions[carrier]).checked_add(self.elements(carrier)?);
                let position = home.ok_or(LayoutError::Overflow)?;
                rooms.push(Space { carrier, position, len });
            }
        }
        if let Some(first) = rooms.iter().position(|room| self.holds_index(room.len, rooms.len())) {
            rooms[..=first].rotate_right(1);
        }
        Ok(rooms)
    }

    /// Bytes for which there is no space in rooms of these types.
    fn missing(&self, types: &Types) -> Result<u64, LayoutError> {
        let order = file_order(self.original, types)?;
        let rooms = self.rooms(types, &order, None)?;
        let mut filling = Filling::new(&rooms, self.index_len(rooms.len()));
        let mut missing = pour(&mut filling, self.remainder_len, u64::from(self.remainder_len > 0));
        for need in self.needs.iter().flatten() {
            missing += pour(&mut filling, need.rest, need.segments);
        }
        Ok(missing)
    }
}

/// Bytes that find no space, of `rest` bytes in so many segments of like size.
fn pour(filling: &mut Filling, rest: u64, segments: u64) -> u64 {
    let all = u128::from(rest.saturating_sub(PIECE_OVERHEAD).max(1));
    let bytes = |some: u64| (all * u128::from(some)).div_ceil(u128::from(segments)) as u64;
    let mut left = segments;
    while left > 0 {
        let Some(free) = filling.free() else { return bytes(left) + PIECE_OVERHEAD };
        let space = u128::from(free.len.saturating_sub(PIECE_OVERHEAD));
        let fit = (space * u128::from(segments) / all).min(u128::from(left)) as u64;
        filling.take(free, if fit > 0 { (bytes(fit) + PIECE_OVERHEAD).min(free.len) } else { 0 });
        left -= fit;
        if left > 0 {
            filling.leave();
        }
    }
    0
}

/// Plain tensors, then carriers; of these, first those behind which the next begins at a multiple of [`HOME_ALIGNMENT`].
fn file_order(original: &Gguf, types: &Types) -> Result<Vec<usize>, LayoutError> {
    let bytes = (0..types.len()).map(|i| bytes_of(original, types, i)).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<usize> = (0..types.len()).collect();
    order.sort_by_key(|&i| {
        (types[i].is_some(), types[i].is_some() && !bytes[i].is_multiple_of(HOME_ALIGNMENT))
    });
    Ok(order)
}

/// Bytes of a tensor in the converted file.
fn bytes_of(original: &Gguf, types: &Types, tensor: usize) -> Result<u64, LayoutError> {
    let info = &original.tensors[tensor];
    match types[tensor] {
        None => Ok(info.len),
        Some(ty) => info.dims.bytes(ty).ok_or(LayoutError::Overflow),
    }
}

/// The header, where each tensor begins, and the length of the file.
fn place(
    original: &Gguf,
    types: &Types,
    order: &[usize],
    writer: &str,
) -> Result<(Vec<u8>, Vec<u64>, u64), LayoutError> {
    let mut offsets = vec![0; types.len()];
    let (mut end, mut first_carrier) = (0u64, 0);
    for &i in order {
        let bytes = bytes_of(original, types, i)?;
        offsets[i] = end;
        if types[i].is_none() {
            first_carrier = advance(end, bytes, original.alignment)?;
        }
        end = advance(end, bytes, original.alignment)?;
    }
    // As many spaces as it takes for the first carrier to begin where its blocks should.
    let header = |padding| header(original, types, order, &offsets, writer, padding);
    let begins_well = |header: &Vec<u8>| (header.len() as u64 + first_carrier).is_multiple_of(HOME_ALIGNMENT);
    let candidates = std::iter::once(None).chain((0..HOME_ALIGNMENT as usize).map(Some));
    let header = candidates.map(header).find(begins_well).ok_or(LayoutError::Overflow)?;
    let start = header.len() as u64;
    let positions = offsets.iter().map(|offset| start.checked_add(*offset)).collect::<Option<_>>();
    let file_len = start.checked_add(end).ok_or(LayoutError::Overflow)?;
    Ok((header, positions.ok_or(LayoutError::Overflow)?, file_len))
}

/// The file up to its data section.
fn header(
    original: &Gguf,
    types: &Types,
    order: &[usize],
    offsets: &[u64],
    writer: &str,
    padding: Option<usize>,
) -> Vec<u8> {
    let keys = original.kv.len() as u64 + 2 + u64::from(padding.is_some());
    let mut header = Vec::new();
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&original.version.to_le_bytes());
    header.extend_from_slice(&(original.tensors.len() as u64).to_le_bytes());
    header.extend_from_slice(&keys.to_le_bytes());
    for pair in &original.kv {
        header.extend_from_slice(pair.raw);
    }
    push_u32(&mut header, KEY_VERSION, VERSION);
    push_string(&mut header, KEY_WRITER, writer);
    if let Some(spaces) = padding {
        push_string(&mut header, KEY_PADDING, &" ".repeat(spaces));
    }
    for &i in order {
        let tensor = &original.tensors[i];
        push_info(&mut header, tensor.name, &tensor.dims, types[i].unwrap_or(tensor.ty), offsets[i]);
    }
    let data_start = (header.len() as u64).next_multiple_of(original.alignment);
    header.resize(data_start as usize, 0);
    header
}

fn advance(position: u64, len: u64, alignment: u64) -> Result<u64, LayoutError> {
    position.checked_add(len).and_then(|end| align(end, alignment)).ok_or(LayoutError::Overflow)
}

/// The metadata that a converted file gives back: the original up to its first tensor info.
pub(super) fn metadata(converted: &Gguf, tensors: u64) -> Vec<u8> {
    let kept = || converted.kv.iter().filter(|pair| !KEYS.contains(&pair.key));
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&converted.version.to_le_bytes());
    out.extend_from_slice(&tensors.to_le_bytes());
    out.extend_from_slice(&(kept().count() as u64).to_le_bytes());
    for pair in kept() {
        out.extend_from_slice(pair.raw);
    }
    out
}
