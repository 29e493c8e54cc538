//! Archives: whatever is accepted comes back byte for byte, from either form, and nothing in an archive can do harm.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use unweight::codec::Number;
use unweight::container::archive::{Coding, Entry, HEAD_BYTES, Index, TENSOR};
use unweight::container::gguf::{Gguf, TensorType};
use unweight::convert::{Cause, Form, Refusal, Report, convert, forecast, restore, restore_to, verify};

use crate::file::{File, Tensor, Value};
use crate::memory::peak;
use crate::round_trip::{any_file, types};

struct Files {
    folder: TempDir,
    original: PathBuf,
    bytes: Vec<u8>,
}

impl Files {
    fn new(original: &File) -> Self {
        let folder = TempDir::new().unwrap();
        let (path, bytes) = (folder.path().join("original.gguf"), original.to_bytes());
        fs::write(&path, &bytes).unwrap();
        Self { folder, original: path, bytes }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The original as an archive.
    #[track_caller]
    fn archived(&self) -> PathBuf {
        let archive = self.path("archive.gguf");
        convert(&self.original, &archive, Form::Archive, true, &()).unwrap();
        self.comes_back(&archive);
        archive
    }

    #[track_caller]
    fn comes_back(&self, archive: &Path) {
        let restored = self.path("restored.gguf");
        assert!(restore(archive, &restored, true, &()).unwrap().is_whole);
        assert!(fs::read(&restored).unwrap() == self.bytes);
        assert!(verify(archive, Some(&self.original), &()).unwrap().is_whole);
    }
}

fn index_of(archive: &Path) -> (Index, u64) {
    let bytes = fs::read(archive).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let tensor = gguf.tensor(TENSOR).unwrap();
    (Index::parse(gguf.bytes(tensor)).unwrap(), gguf.position(tensor))
}

/// Weights that get smaller in any file.
fn weights(name: &str) -> Tensor {
    Tensor::new(name, TensorType::BF16, &[256, 100], 7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_file_comes_back(mut file in any_file()) {
        let offset = file.tensors.iter().map(|tensor| tensor.offset + tensor.data.len() as u64).max().unwrap_or(0);
        let mut large = weights("a name that no other tensor has");
        large.offset = offset.next_multiple_of(file.alignment());
        file.tensors.push(large);
        Files::new(&file).archived();
    }
}

#[test]
fn every_type_comes_back() {
    // Two of each: one of many rows, and one that is no matrix.
    let tensors = types().into_iter().flat_map(|ty| {
        let k = ty.block().max(32);
        let name = |what: &str| format!("{what} of {ty}");
        [
            Tensor::new(&name("a matrix"), ty, &[4 * k, 40], u64::from(ty.id())),
            Tensor::new(&name("a vector"), ty, &[k], u64::from(ty.id())),
        ]
    });
    let files = Files::new(&File::of(tensors.collect()));
    let (index, _) = index_of(&files.archived());
    let is = |coding: fn(&Entry) -> bool| index.entries.iter().filter(|entry| coding(entry)).count();
    assert!(is(|entry| matches!(entry.coding, Coding::Weights { .. })) >= 3);
    assert!(is(|entry| matches!(entry.coding, Coding::Records { .. })) >= 3);
    assert!(is(|entry| entry.coding == Coding::Stored) > 0);
}

/// A tensor of F32 or F16 whose numbers are BF16.
fn cast(ty: TensorType) -> Tensor {
    let mut tensor = Tensor::new("cast", ty, &[200, 64], 3);
    let words = weights("").data;
    match ty {
        TensorType::F32 => {
            for (weight, word) in tensor.data.as_chunks_mut::<4>().0.iter_mut().zip(words.chunks(2)) {
                *weight = [0, 0, word[0], word[1]];
            }
        }
        _ => {
            for (i, weight) in tensor.data.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *weight = (0x3000 + 8 * (i as u16 % 100)).to_le_bytes();
            }
        }
    }
    tensor
}

#[test]
fn weights_are_stored_as_what_they_are() {
    for ty in [TensorType::F32, TensorType::F16] {
        let files = Files::new(&File::of(vec![cast(ty)]));
        let (index, _) = index_of(&files.archived());
        let Coding::Weights { number, k: 200, .. } = index.entries[0].coding else { panic!("{index:?}") };
        assert_eq!(number, Number::Bf16);
    }
}

#[test]
fn forms_lead_to_each_other() {
    let mut file = File::of((0..12).map(|i| weights(&format!("blk.{i}.ffn_up.weight"))).collect());
    (file.filler, file.trailing) = (0xA5, 7);
    let files = Files::new(&file);
    let archive = files.archived();
    let [runs, from_archive, from_run] =
        ["runs.gguf", "from-archive.gguf", "from-run.gguf"].map(|name| files.path(name));
    // All but which file was read.
    let same = |report: Report| (report.before, report.after, report.notes, report.tensors);
    let report = convert(&files.original, &runs, Form::Run, false, &()).unwrap();
    assert_eq!(same(convert(&archive, &from_archive, Form::Run, false, &()).unwrap()), same(report));
    assert!(fs::read(&from_archive).unwrap() == fs::read(&runs).unwrap());
    let report = convert(&runs, &from_run, Form::Archive, false, &()).unwrap();
    assert!(fs::read(&from_run).unwrap() == fs::read(&archive).unwrap());
    assert_eq!(same(forecast(&files.original, Form::Archive, &()).unwrap()), same(report.clone()));
    assert_eq!(report.after, fs::metadata(&archive).unwrap().len());

    let error = convert(&archive, &files.path("none"), Form::Archive, false, &()).unwrap_err();
    assert!(matches!(*error.cause, Cause::Refused(Refusal::Archived)), "{error}");
    let error = convert(&runs, &files.path("none"), Form::Run, false, &()).unwrap_err();
    assert!(matches!(*error.cause, Cause::Refused(Refusal::Converted)), "{error}");
    assert!(!files.path("none").exists());
}

/// Flips a bit of the data of a tensor.
fn damage(path: &Path, tensor: &str, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let position = gguf.position(gguf.tensor(tensor).unwrap()) as usize;
    bytes[position + at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_not_converted() {
    let file = File::of((0..12).map(|i| weights(&format!("blk.{i}.ffn_up.weight"))).collect());
    let files = Files::new(&file);
    let [archive, runs, target] = ["archive.gguf", "runs.gguf", "target.gguf"].map(|name| files.path(name));
    for (form, other, tensor, path) in [
        (Form::Archive, Form::Run, TENSOR, &archive),
        (Form::Run, Form::Archive, "blk.3.ffn_up.weight", &runs),
    ] {
        convert(&files.original, path, form, false, &()).unwrap();
        // Raw bits: nothing but a checksum can tell.
        damage(path, tensor, 5000);
        let error = convert(path, &target, other, false, &()).unwrap_err();
        assert!(matches!(&*error.cause, Cause::Tensor { .. }), "{error}");
        assert!(forecast(path, other, &()).is_err() && !target.exists());
    }
}

#[test]
fn a_stream_gets_the_original_in_order() {
    let files = Files::new(&File::of(vec![weights("w"), Tensor::new("norm", TensorType::F32, &[77], 1)]));
    let archive = files.archived();
    let mut stream = Vec::new();
    assert!(restore_to(&archive, &mut stream, &()).unwrap().is_whole);
    assert!(stream == files.bytes);

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(restore_to(&archive, &mut Full, &()).is_err());
}

#[test]
fn what_does_not_get_smaller_is_refused() {
    let mut noise = Tensor::new("noise", TensorType::I8, &[4000], 1);
    let mut state = 1u64;
    for byte in &mut noise.data {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let files = Files::new(&File::of(vec![noise]));
    let archive = files.path("archive.gguf");
    let error = convert(&files.original, &archive, Form::Archive, false, &()).unwrap_err();
    assert!(matches!(*error.cause, Cause::Refused(Refusal::NotSmaller { .. })), "{error}");
    assert!(!archive.exists());
}

/// A small file with a tensor of each coding, and gaps.
fn small() -> Files {
    let mut file = File::of(vec![
        Tensor::new("weights", TensorType::BF16, &[64, 40], 2),
        Tensor::new("quants", TensorType::Q8_0, &[32, 60], 3),
        Tensor::new("few", TensorType::I8, &[5], 4),
    ])
    .with_kv("general.alignment", Value::u32(64));
    (file.filler, file.trailing) = (0xA5, 3);
    Files::new(&file)
}

/// What an archive gives back, if anything; and that this takes no memory that the file has not earned.
fn given_back(path: &Path) -> Option<Vec<u8>> {
    const MUCH: isize = 8 << 20; // windows, and tables of codes
    let (result, most) = peak(|| {
        let mut bytes = Vec::new();
        restore_to(path, &mut bytes, &()).ok().map(|_| bytes)
    });
    assert!(most < MUCH, "{most} bytes");
    result
}

/// Work in a pool of this thread only, whose memory is counted.
fn alone(work: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap().install(work);
}

#[test]
fn damage_is_found_or_does_none() {
    let files = small();
    let archive = files.archived();
    let bytes = fs::read(&archive).unwrap();
    let damaged = files.path("damaged.gguf");
    alone(|| {
        for len in 0..bytes.len() {
            fs::write(&damaged, &bytes[..len]).unwrap();
            assert!(given_back(&damaged).is_none(), "{len} of {} bytes", bytes.len());
        }
        fs::write(&damaged, &bytes).unwrap();
        let file = fs::File::options().write(true).open(&damaged).unwrap();
        for bit in 0..8 * bytes.len() {
            let at = bit / 8;
            file.write_all_at(&[bytes[at] ^ 1 << (bit % 8)], at as u64).unwrap();
            if let Some(restored) = given_back(&damaged) {
                // A key that nobody reads, or a bit that fills up.
                assert!(restored == files.bytes, "bit {bit}");
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    });
}

#[test]
fn a_forged_index_does_no_harm() {
    let files = small();
    let archive = files.archived();
    let (index, start) = index_of(&archive);
    let bytes = fs::read(&archive).unwrap();
    let index_at = {
        let parts = index.header_frame + index.gaps_frame + index.entries.iter().map(Entry::len).sum::<u64>();
        HEAD_BYTES + parts
    };
    let weights = |change: fn(&mut u64, &mut u64, &mut Number)| {
        move |index: &mut Index| {
            let Coding::Weights { number, k, rows } = &mut index.entries[0].coding else { panic!() };
            change(k, rows, number);
        }
    };
    type Change<'a> = Box<dyn Fn(&mut Index) + Sync + 'a>;
    let changes: Vec<(&str, Change)> = vec![
        ("no row", Box::new(weights(|k, _, _| *k = 0))),
        ("no rows", Box::new(weights(|_, rows, _| *rows = 0))),
        ("endless rows", Box::new(weights(|k, _, _| *k = u64::MAX))),
        ("many rows", Box::new(weights(|_, rows, _| *rows = u64::MAX / 128))),
        ("other rows", Box::new(weights(|k, _, _| *k = 65))),
        ("half rows", Box::new(weights(|k, _, _| *k = 32))),
        ("shorter chunks", Box::new(weights(|_, rows, _| *rows = 39))),
        ("wider numbers", Box::new(weights(|_, _, number| *number = Number::F32))),
        ("no records", Box::new(|index| index.entries[1].coding = Coding::Records { width: 34, records: 0 })),
        (
            "other records",
            Box::new(|index| index.entries[1].coding = Coding::Records { width: 17, records: 120 }),
        ),
        ("records for weights", Box::new(|index| index.entries[0].coding = index.entries[1].coding)),
        ("weights for records", Box::new(|index| index.entries[1].coding = index.entries[0].coding)),
        ("stored", Box::new(|index| index.entries[0].coding = Coding::Stored)),
        (
            "no model",
            Box::new(|index| {
                index.entries[0].chunks[0] += index.entries[0].model;
                index.entries[0].model = 0;
            }),
        ),
        (
            "all model",
            Box::new(|index| {
                index.entries[0].model += index.entries[0].chunks[0];
                index.entries[0].chunks[0] = 0;
            }),
        ),
        ("a chunk more", Box::new(|index| index.entries[0].chunks.push(0))),
        ("no chunks", Box::new(|index| index.entries[2].chunks.clear())),
        ("a tensor less", Box::new(|index| drop(index.entries.pop()))),
        ("a tensor more", Box::new(|index| index.entries.push(index.entries[2].clone()))),
        ("tensors in another order", Box::new(|index| index.entries.swap(0, 1))),
        ("a longer header", Box::new(|index| index.header_len += 1)),
        ("an endless header", Box::new(|index| index.header_len = u64::MAX)),
        ("an endless frame", Box::new(|index| index.header_frame = u64::MAX)),
        (
            "a frame of the next",
            Box::new(|index| {
                index.header_frame += index.gaps_frame;
                index.gaps_frame = 0;
            }),
        ),
        ("a shorter original", Box::new(|index| index.original_len -= 1)),
        ("an endless original", Box::new(|index| index.original_len = u64::MAX)),
        ("another checksum", Box::new(|index| index.entries[2].xxh3 ^= 1)),
        ("another hash", Box::new(|index| index.original_blake3[0] ^= 1)),
    ];
    alone(|| {
        let forged = files.path("forged.gguf");
        for (what, change) in &changes {
            let mut index = index.clone();
            change(&mut index);
            let (table, head) = index.to_bytes(index_at);
            let mut bytes = bytes[..(start + index_at) as usize].to_vec();
            bytes.extend(table);
            let len = bytes.len() as u64 - start;
            bytes[start as usize..][..head.len()].copy_from_slice(&head);
            // The tensor's one extent stands before its type and its offset.
            let infos = Gguf::parse(&fs::read(&archive).unwrap()).unwrap().header_len as usize;
            bytes[infos - 20..infos - 12].copy_from_slice(&len.to_le_bytes());
            fs::write(&forged, &bytes).unwrap();
            // Rows cut in half are the same weights where there is one table.
            let is_right = |restored: Vec<u8>| restored == files.bytes;
            assert!(given_back(&forged).is_none_or(is_right), "{what}");
        }
        // The way in which they were forged leaves a good one good.
        let (table, head) = index.to_bytes(index_at);
        assert!(bytes[(start + index_at) as usize..] == table && bytes[start as usize..].starts_with(&head));
    });
}
