//! Converted files that contradict themselves, one test per cause. The checksums are always right: whoever forges a file can
//! count too.

use unweight::container::converted::{Converted, ConvertedError};
use unweight::container::gguf::{Dims, Gguf, TensorType};
use unweight::container::layout::{KEYS, Layout, LayoutError, Need};
use unweight::container::parts::PartsError;
use unweight::container::restored::{Restored, RestoredError};
use unweight::container::rooms::{
    Carrier, FileId, Group, GroupError, Index, IndexError, Piece, Remainder, RoomError, RoomHeader, Stored,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::conversion::{PALETTE8, change_index, convert, restore, seal};
use crate::file::{File, Tensor, Value};
use crate::memory::peak;

/// A plain tensor and four carriers. The first of these has no room; the others have rooms 0, 1 and 2, and "one" has pieces in two of them.
fn converted() -> Vec<u8> {
    convert(&original().to_bytes(), &[None, Some(PALETTE8), Some(PALETTE8), Some(PALETTE8), Some(PALETTE8)])
        .unwrap()
}

fn original() -> File {
    let matrix = |name, seed| Tensor::new(name, TensorType::BF16, &[64, 64], seed);
    let norm = Tensor::new("norm", TensorType::F32, &[32], 1);
    File::of(vec![norm, matrix("bare", 2), matrix("one", 3), matrix("two", 4), matrix("three", 5)])
}

fn open(file: &[u8]) -> Result<(), ConvertedError> {
    Converted::open(Gguf::parse(file).unwrap(), &[]).map(|_| ())
}

/// Why the converted file with a changed GGUF is refused.
fn file_refusal(change: impl FnOnce(&mut File)) -> ConvertedError {
    let mut file = File::read(&converted());
    change(&mut file);
    open(&file.to_bytes()).unwrap_err()
}

fn group_refusal(change: impl FnOnce(&mut File)) -> GroupError {
    match file_refusal(change) {
        ConvertedError::Group(error) => error,
        other => panic!("not a fault of the rooms: {other}"),
    }
}

/// A carrier's bytes behind its home.
fn room<'a>(file: &'a mut File, name: &str) -> &'a mut [u8] {
    let tensor = find(file, name);
    let home = tensor.dims.iter().product::<u64>() as usize;
    &mut tensor.data[home..]
}

fn find<'a>(file: &'a mut File, name: &str) -> &'a mut Tensor {
    file.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

/// Why it is refused with these bytes at this place of the room with the index.
fn bytes_refusal(at: usize, bytes: &[u8]) -> GroupError {
    group_refusal(|file| {
        let room = room(file, "one");
        room[at..at + bytes.len()].copy_from_slice(bytes);
        seal(room);
    })
}

fn index_of(error: GroupError) -> IndexError {
    match error {
        GroupError::Index { name, error } if name == "one" => error,
        other => panic!("not a fault of the index: {other}"),
    }
}

fn change_file_index(change: impl FnOnce(&mut Index)) -> Vec<u8> {
    let mut file = File::read(&converted());
    change_index(room(&mut file, "one"), change);
    file.to_bytes()
}

fn index_refusal(change: impl FnOnce(&mut Index)) -> IndexError {
    index_of(group_refusal(|file| change_index(room(file, "one"), change)))
}

fn entry_error(name: &str, what: &'static str) -> IndexError {
    IndexError::Entry { name: name.to_owned(), what }
}

fn tensor_error(name: &str, what: &'static str) -> ConvertedError {
    ConvertedError::Tensor { name: name.to_owned(), what }
}

fn carrier_error(name: &str, what: &'static str) -> GroupError {
    GroupError::Carrier { name: name.to_owned(), what }
}

/// The pieces of an entry, by its place in the index.
fn pieces(index: &mut Index, entry: usize) -> &mut Vec<Piece> {
    match &mut index.entries[entry].stored {
        Stored::Coded { pieces, .. } => pieces,
        Stored::Plain => panic!("a plain tensor"),
    }
}

#[test]
fn untampered() {
    assert_eq!(open(&converted()), Ok(()));
    assert_eq!(open(&File::read(&converted()).to_bytes()), Ok(()));
    assert_eq!(open(&change_file_index(|_| ())), Ok(()));
    let file = converted();
    let opened = Converted::open(Gguf::parse(&file).unwrap(), &[]).unwrap();
    let index = opened.untouched().unwrap();
    let carriers: Vec<_> = index.rooms.iter().map(|room| index.carrier(room).name.as_str()).collect();
    assert_eq!(carriers, ["one", "two", "three"]);
    let rooms =
        |entry: usize| index.entries[entry].pieces().iter().map(|piece| piece.room).collect::<Vec<_>>();
    assert_eq!([rooms(1), rooms(2), rooms(3), rooms(4)], [vec![0], vec![0, 1], vec![1], vec![2]]);
}

#[test]
fn files_with_nothing_of_ours() {
    let with = |value| open(&original().with_kv("unweight.version", value).to_bytes());
    assert_eq!(open(&original().to_bytes()), Err(ConvertedError::NotUnweight));
    assert_eq!(with(Value::String("1".to_owned())), Err(ConvertedError::NotUnweight));
    assert_eq!(with(Value::u32(1)), Err(ConvertedError::NoIndex));
    assert_eq!(with(Value::u32(2)), Err(ConvertedError::Version(2)));
}

#[test]
fn no_reader_needs_our_keys() {
    for version in [None, Some(Value::u32(2)), Some(Value::String("1".to_owned()))] {
        let mut file = File::read(&converted());
        file.kv.retain(|(key, _)| !KEYS.contains(&key.as_str()));
        file.kv.extend(version.map(|version| ("unweight.version".to_owned(), version)));
        assert!(restore(&file.to_bytes()).unwrap() == original().to_bytes());
    }
}

#[test]
fn a_file_beside_those_of_another_model() {
    let (other, converted) = (original().to_bytes(), converted());
    let mut stranger = File::read(&other);
    for tensor in &mut stranger.tensors {
        tensor.name.push_str(" of another");
    }
    let stranger = stranger.to_bytes();
    let beside = [Gguf::parse(&converted).unwrap()];
    let refused = Converted::open(Gguf::parse(&stranger).unwrap(), &beside).map(|_| ());
    assert_eq!(refused, Err(ConvertedError::NotUnweight));
}

#[test]
fn the_header_of_a_room() {
    let refused = |error| GroupError::Room { name: "one".to_owned(), error };
    assert_eq!(bytes_refusal(8, &[2]), refused(RoomError::Version(2)));
    for at in 48..56 {
        assert_eq!(bytes_refusal(at, &[1]), refused(RoomError::Reserved));
    }
    assert_eq!(group_refusal(|file| room(file, "one")[56] ^= 1), refused(RoomError::Checksum));
    assert_eq!(group_refusal(|file| room(file, "one")[12] ^= 1), refused(RoomError::Checksum));
    // A checksum of no index.
    let refused = group_refusal(|file| {
        let room = room(file, "two");
        room[40] = 1;
        seal(room);
    });
    assert_eq!(refused, GroupError::Room { name: "two".to_owned(), error: RoomError::Reserved });
}

#[test]
fn rooms_that_do_not_begin_as_one() {
    assert_eq!(bytes_refusal(0, b"UNWEIGHS"), GroupError::NoIndex { name: "three".to_owned() });
    let refused = group_refusal(|file| room(file, "two")[0] ^= 1);
    assert_eq!(refused, GroupError::RoomMissing { name: "one".to_owned(), carrier: "two".to_owned() });
}

#[test]
fn rooms_without_an_index() {
    let refused = bytes_refusal(32, &[0; 16]);
    assert_eq!(refused, GroupError::NoIndex { name: "one".to_owned() });
    let refused = group_refusal(|file| file.tensors.retain(|tensor| tensor.name != "one"));
    assert_eq!(refused, GroupError::NoIndex { name: "three".to_owned() });
    // Of another file.
    let refused = group_refusal(|file| {
        let room = room(file, "two");
        room[16] ^= 1;
        seal(room);
    });
    assert_eq!(refused, GroupError::NoIndex { name: "two".to_owned() });
}

#[test]
fn rooms_that_are_missing() {
    let missing = GroupError::RoomMissing { name: "one".to_owned(), carrier: "two".to_owned() };
    assert_eq!(group_refusal(|file| file.tensors.retain(|tensor| tensor.name != "two")), missing);
    let narrowed = group_refusal(|file| {
        let two = find(file, "two");
        two.ty = TensorType::I8.id();
        two.data.truncate(64 * 64);
        let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
        file.place(&order);
    });
    assert_eq!(narrowed, missing);
}

/// Adds a carrier like one that is there, with another name and room number.
fn add_copy(file: &mut File, of: &str, number: u8) -> FileId {
    let mut copy = Tensor { name: "copy".to_owned(), ..find(file, of).clone() };
    let room = &mut copy.data[64 * 64..];
    room[12] = number;
    seal(room);
    let id = RoomHeader::parse(room).unwrap().unwrap().id;
    file.tensors.push(copy);
    let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
    file.place(&order);
    id
}

#[test]
fn rooms_and_indexes_that_are_there_twice() {
    let mut id = FileId([0; 16]);
    let (first, second) = ("two".to_owned(), "copy".to_owned());
    let refused = group_refusal(|file| id = add_copy(file, "two", 1));
    assert_eq!(refused, GroupError::TwoRooms { first, second, number: 1, id });
    let (first, second) = ("one".to_owned(), "copy".to_owned());
    let refused = group_refusal(|file| id = add_copy(file, "one", 3));
    assert_eq!(refused, GroupError::TwoIndexes { first, second, id });
}

#[test]
fn the_same_file_twice() {
    let file = converted();
    let again = [Gguf::parse(&file).unwrap()];
    let refused = Converted::open(Gguf::parse(&file).unwrap(), &again).map(|_| ()).unwrap_err();
    assert_eq!(refused, ConvertedError::Group(GroupError::TwoTensors { name: "bare".to_owned() }));
}

#[test]
fn a_tensor_of_two_indexes() {
    let matrix = |name, seed| Tensor::new(name, TensorType::BF16, &[64, 64], seed);
    let other =
        File::of(vec![Tensor::new("norm", TensorType::F32, &[32], 1), matrix("four", 6), matrix("five", 7)]);
    let other = convert(&other.to_bytes(), &[None, Some(PALETTE8), Some(PALETTE8)]).unwrap();
    let refused = group_refusal(|file| {
        file.tensors.extend(File::read(&other).tensors.into_iter().filter(|tensor| tensor.name != "norm"));
        let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
        file.place(&order);
    });
    assert_eq!(refused, GroupError::Ambiguous { name: "norm".to_owned() });
}

#[test]
fn rooms_that_the_index_has_elsewhere() {
    let what = "holds a room that its index does not have, has in another tensor, or of another length";
    let swapped = group_refusal(|file| {
        for (name, number) in [("two", 2), ("three", 1)] {
            let room = room(file, name);
            room[12] = number;
            seal(room);
        }
    });
    assert_eq!(swapped, carrier_error("three", what));
    for len in [4095, 4097] {
        let refused = group_refusal(|file| change_index(room(file, "one"), |index| index.rooms[1].len = len));
        assert_eq!(refused, carrier_error("two", what));
    }
}

#[test]
fn carriers_of_another_type() {
    let refused = group_refusal(|file| {
        let bare = find(file, "bare");
        bare.ty = TensorType::F16.id();
        bare.data.resize(2 * 64 * 64, 0);
        let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
        file.place(&order);
    });
    assert_eq!(
        refused,
        carrier_error("bare", "compressed by its index, but its type is none of a carrier's")
    );
}

#[test]
fn carriers_of_another_number_of_weights() {
    let file = File::read(&converted());
    let carriers = file.tensors.iter().map(|tensor| Carrier {
        name: &tensor.name,
        ty: TensorType::from_id(tensor.ty).unwrap(),
        elements: if tensor.name == "bare" { 64 * 63 } else { tensor.dims.iter().product() },
        bytes: &tensor.data,
    });
    let group = Group::gather(carriers).unwrap();
    let refused = group.locate("bare").unwrap_err();
    assert_eq!(refused, carrier_error("bare", "it has not as many weights as its index says"));
    assert!(group.locate("one").unwrap().is_some());
    assert!(group.locate("norm").unwrap().is_none());
}

#[test]
fn tensors_that_differ_from_the_index() {
    for name in ["norm", "bare", "one"] {
        let shape = file_refusal(|file| find(file, name).dims.push(1));
        assert_eq!(shape, tensor_error(name, "its shape differs from that in the index"));
    }
    let ty = file_refusal(|file| find(file, "norm").ty = 26);
    assert_eq!(ty, tensor_error("norm", "its type differs from that in the index"));
}

#[test]
fn an_encoding_that_is_not_known_spoils_its_tensor_only() {
    let file = change_file_index(|index| match &mut index.entries[1].stored {
        Stored::Coded { encoding, .. } => *encoding = 9,
        Stored::Plain => panic!("a plain tensor"),
    });
    let converted = Converted::open(Gguf::parse(&file).unwrap(), &[]).unwrap();
    let encoding = |name: &str| converted.locate(name).unwrap().unwrap().encoding;
    assert_eq!(["bare", "one", "two"].map(encoding), [9, 1, 1]);
    assert_eq!(restore(&file).unwrap_err().to_string(), "an unknown encoding");
}

#[test]
fn originals_that_are_not_this_one() {
    let is_whole =
        |file: &[u8]| Converted::open(Gguf::parse(file).unwrap(), &[]).unwrap().untouched().is_some();
    assert!(is_whole(&converted()));
    assert!(!is_whole(&change_file_index(|index| index.metadata_len += 1)));
    assert!(!is_whole(&change_file_index(|index| index.metadata_xxh3 ^= 1)));
    assert!(!is_whole(&change_file_index(|index| index.entries[0].name = "other".to_owned())));
}

#[test]
fn indexes_that_leave_their_room() {
    for len in [1 << 12, 1 << 20, u64::MAX - 64, u64::MAX] {
        assert_eq!(index_of(bytes_refusal(32, &u64::to_le_bytes(len))), IndexError::Beyond);
    }
    assert_eq!(index_of(group_refusal(|file| room(file, "one")[64] ^= 1)), IndexError::Checksum);
}

/// In the room with the index: its count of rooms, its count of tensors, the first room, and the first entry, which is a length, "norm", type, one
/// dimension, offset, length, checksum, encoding.
const ROOM_COUNT: usize = 64 + 84;
const TENSOR_COUNT: usize = ROOM_COUNT + 4;
const ROOMS: usize = TENSOR_COUNT + 4;
const ENTRY: usize = ROOMS + 3 * 20;
const ENTRY_BYTES: usize = 52;

#[test]
fn indexes_that_end_early() {
    let refused = |end: usize| index_of(bytes_refusal(32, &(end as u64 - 64).to_le_bytes()));
    assert_eq!(refused(65), IndexError::Truncated);
    assert_eq!(refused(ROOMS - 1), IndexError::Truncated);
    assert_eq!(refused(ROOMS), IndexError::EntryTruncated(0));
    assert_eq!(refused(ENTRY + ENTRY_BYTES - 1), IndexError::EntryTruncated(0));
    assert_eq!(refused(ENTRY + ENTRY_BYTES), IndexError::EntryTruncated(1));
}

#[test]
fn counts_that_differ_from_the_entries() {
    let refused = |at, bytes: &[u8]| index_of(bytes_refusal(at, bytes));
    assert_eq!(refused(TENSOR_COUNT, &[6]), IndexError::EntryTruncated(5));
    assert_eq!(refused(TENSOR_COUNT, &[0xFF; 4]), IndexError::EntryTruncated(5));
    let fewer = refused(TENSOR_COUNT, &[4]);
    assert!(matches!(fewer, IndexError::Length(_)), "{fewer}");
    assert_eq!(refused(ROOM_COUNT, &[0xFF; 4]), IndexError::EntryTruncated(0));
}

#[test]
fn counts_that_the_index_has_not_earned_cost_nothing() {
    // Of a tensor of no weights: all but the number of its pieces.
    let entry = [&[0; 8][..], &[4, 0, 0, 0], &[0; 4 * 8 + 24], &[1, 0, 0, 0], &[0xFF; 4]].concat();
    for (at, bytes, expected) in [
        (ROOM_COUNT, &[0xFF; 4][..], IndexError::EntryTruncated(0)),
        (TENSOR_COUNT, &[0xFF; 4], entry_error("", "its length contradicts its type and shape")),
        (ROOMS, &entry, IndexError::EntryTruncated(0)),
    ] {
        let mut room = vec![0; 4 << 20];
        room[TENSOR_COUNT] = 1;
        room[at..at + bytes.len()].copy_from_slice(bytes);
        let (index_len, index_xxh3) = (room.len() as u64 - 64, xxh3_64(&room[64..]));
        let header = RoomHeader { number: 0, id: FileId([0; 16]), index_len, index_xxh3 };
        let (result, bytes) = peak(|| Index::parse(&header, &room).map(|_| ()));
        assert_eq!(result, Err(expected));
        assert!(bytes < 16 << 10, "{bytes} bytes allocated");
    }
}

#[test]
fn names() {
    assert_eq!(index_of(bytes_refusal(ENTRY + 4, &[0xFF])), IndexError::Name(0));
    assert_eq!(index_of(bytes_refusal(ENTRY, &[0xFF; 4])), IndexError::EntryTruncated(0));
    let twice = index_refusal(|index| index.entries[0].name = "one".to_owned());
    assert_eq!(twice, IndexError::Duplicate("one".to_owned()));
}

#[test]
fn types_and_shapes() {
    assert_eq!(index_of(bytes_refusal(ENTRY + 8, &[31])), entry_error("norm", "an unknown type"));
    for count in [5, 255] {
        let refused = index_of(bytes_refusal(ENTRY + 12, &[count]));
        assert_eq!(refused, entry_error("norm", "more than 4 dimensions"));
    }
    let contradiction = entry_error("norm", "its length contradicts its type and shape");
    assert_eq!(index_refusal(|index| index.entries[0].len += 1), contradiction);
    for dims in [&[1 << 63, 2][..], &[1 << 32, 1 << 32], &[0, 1 << 32, 1 << 32, 1 << 32], &[31]] {
        assert_eq!(index_refusal(|index| index.entries[0].dims = Dims::new(dims).unwrap()), contradiction);
    }
}

#[test]
fn places_in_the_original() {
    let overlap = index_refusal(|index| index.entries[1].offset = 64);
    assert_eq!(overlap, entry_error("bare", "its original bytes overlap those of another tensor"));
    let beyond = entry_error("three", "its original bytes lie beyond the end of the original");
    assert_eq!(index_refusal(|index| index.entries[4].offset = 1 << 60), beyond);
    assert_eq!(index_refusal(|index| index.original_len = 128 + 4 * 8192 - 1), beyond);
    let overflow = index_refusal(|index| index.entries[4].offset = u64::MAX - 31);
    assert_eq!(overflow, entry_error("three", "its extent overflows"));
}

#[test]
fn originals_of_impossible_length() {
    let refused = |original_len| {
        let file = change_file_index(|index| index.original_len = original_len);
        let converted = Converted::open(Gguf::parse(&file).unwrap(), &[]).unwrap();
        Restored::of(&converted).map(|_| ()).unwrap_err()
    };
    // Enough for the tensors, but not for the header.
    assert_eq!(refused(128 + 4 * 8192), RestoredError::Parts(PartsError::Beyond));
    for more in [1 << 31, 1 << 60] {
        let refused = refused(original().to_bytes().len() as u64 + more);
        assert!(matches!(refused, RestoredError::Parts(PartsError::Gaps(gaps)) if gaps > more), "{refused}");
    }
}

#[test]
fn rows_of_pieces() {
    let sum = entry_error("one", "its pieces have not as many rows as it has");
    assert_eq!(index_refusal(|index| pieces(index, 2)[0].rows += 16), sum);
    assert_eq!(index_refusal(|index| pieces(index, 2)[1].rows = u64::MAX), sum);
    assert_eq!(index_refusal(|index| pieces(index, 2).clear()), sum);
    let segments = entry_error("one", "its pieces are not whole segments");
    assert_eq!(
        index_refusal(|index| {
            let pieces = pieces(index, 2);
            pieces[0].rows -= 1;
            pieces[1].rows += 1;
        }),
        segments
    );
    let nothing = Piece { rows: 0, room: 2, offset: 4000, len: 0 };
    for at in 0..3 {
        assert_eq!(index_refusal(|index| pieces(index, 2).insert(at, nothing)), segments);
    }
}

#[test]
fn rooms_in_the_index() {
    let refused = |number, what| IndexError::Room { number, what };
    for carrier in [0, 5, u32::MAX] {
        assert_eq!(
            index_refusal(|index| index.rooms[1].carrier = carrier),
            refused(1, "its tensor is no carrier")
        );
    }
    let twice = index_refusal(|index| index.rooms[2].carrier = index.rooms[0].carrier);
    assert_eq!(twice, refused(2, "its tensor has a room already"));
    for len in [0, 63] {
        assert_eq!(index_refusal(|index| index.rooms[2].len = len), refused(2, "too small for its header"));
    }
    let number = index_of(bytes_refusal(12, &[3]));
    assert_eq!(number, refused(3, "has the index, but is not in it"));
}

#[test]
fn places_in_rooms() {
    let refused = |what: &str| IndexError::Extent { what: what.to_owned() };
    let set = |entry: usize, room, offset, len| {
        index_refusal(|index| {
            let piece = &mut pieces(index, entry)[0];
            *piece = Piece { rows: piece.rows, room, offset, len };
        })
    };
    // In the header, in the index, behind the room, beyond 64 bits, in a room that is not there.
    for (room, offset, len) in [
        (2, 0, 1),
        (2, 63, 64),
        (2, 4096, 1),
        (2, 64, 4096),
        (2, u64::MAX, 1),
        (2, 1000, u64::MAX),
        (3, 64, 0),
        (u32::MAX, 64, 64),
    ] {
        assert_eq!(
            set(4, room, offset, len),
            refused("a piece of tensor \"three\""),
            "{room} {offset} {len}"
        );
    }
    assert_eq!(set(1, 0, 64, 64), refused("the index"));
    assert_eq!(set(1, 0, 65, 64), refused("a piece of tensor \"bare\""));
    let overlapping = index_refusal(|index| pieces(index, 4)[0] = pieces(index, 3)[0]);
    assert_eq!(overlapping, refused("a piece of tensor \"two\""));

    // In the header, behind the room, in a piece, in a room that is not there, beyond 64 bits.
    for (room, offset, len) in
        [(0, 0, 1), (0, 0, 0), (0, 4096, 1), (1, 200, 8), (3, 64, 1), (u32::MAX, 64, 1), (2, 64, u64::MAX)]
    {
        let remainder = Some(Remainder { room, offset, len, xxh3: 1 });
        assert_eq!(index_refusal(|index| index.remainder = remainder), refused("the remainder"));
    }
    assert_eq!(index_refusal(|index| index.rooms[0].len = 100), refused("the index"));
}

#[test]
fn what_cannot_be_laid_out() {
    let bytes = original().to_bytes();
    let plan = |bytes: &[u8], need: Option<Need>| {
        let needs = [None, need, need, need, need];
        Layout::plan(&Gguf::parse(bytes).unwrap(), &needs, 0, 0.0, "test").map(|_| ()).unwrap_err()
    };
    assert_eq!(plan(&bytes, None), LayoutError::NothingToCompress);
    let need = |rest| Some(Need { rest, segments: 4, optional: false });
    for key in KEYS {
        let file = original().with_kv(key, Value::u32(1)).to_bytes();
        assert_eq!(plan(&file, need(1000)), LayoutError::Key(key));
    }
    for rest in [7 * 4096, 1 << 40, u64::MAX] {
        assert_eq!(plan(&bytes, need(rest)), LayoutError::TooSmall);
    }
}
