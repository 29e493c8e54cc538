//! Nothing depends on positions: whatever a tool does that keeps the bytes, types and shapes of tensors, each comes back.

use std::collections::HashSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use unweight::container::converted::{Converted, ConvertedError};
use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::layout::KEYS;

use crate::conversion::{Coding, PALETTE8, PALETTE16, convert, restore_shard};
use crate::file::{File, Tensor, Value};

/// An original and its converted file.
struct Pair {
    original: File,
    converted: File,
}

const OPTIONAL: Coding = Coding { optional: true, ..PALETTE8 };

impl Pair {
    fn new(tensors: Vec<(Tensor, Option<Coding>)>) -> Self {
        let (tensors, codings): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let mut original = File::of(tensors)
            .with_kv("general.alignment", Value::u32(64))
            .with_kv("unweight.foo", Value::String("no key of ours".to_owned()));
        (original.filler, original.trailing) = (0xA5, 7);
        let order: Vec<_> = (0..original.tensors.len()).map(|i| (i, i as u64 % 2)).collect();
        original.place(&order);
        let converted = File::read(&convert(&original.to_bytes(), &codings).unwrap());
        Self { original, converted }
    }
}

fn matrix(name: &str, dims: &[u64], coding: Coding) -> (Tensor, Option<Coding>) {
    (Tensor::new(name, TensorType::BF16, dims, dims[0]), Some(coding))
}

/// Two models that share no name.
static PAIRS: LazyLock<[Pair; 2]> = LazyLock::new(|| {
    let plain = |name: &str, ty, dims: &[u64]| (Tensor::new(name, ty, dims, 5), None);
    [
        Pair::new(vec![
            plain("norm", TensorType::F32, &[40]),
            matrix("one", &[64, 64], PALETTE8),
            plain("number", TensorType::F32, &[]),
            matrix("left out", &[72, 30], OPTIONAL),
            matrix("two", &[200, 24], PALETTE16),
            matrix("table", &[64, 515], PALETTE8),
            plain("numbers", TensorType::I16, &[3, 100]),
            matrix("left out too", &[64, 40], OPTIONAL),
            matrix("four", &[30, 3, 2, 20], PALETTE8),
        ]),
        Pair::new(vec![matrix("other", &[128, 40], PALETTE8), plain("other norm", TensorType::F32, &[128])]),
    ]
});

/// What a tool does to a file.
#[derive(Debug, Clone)]
struct Change {
    /// The tensors of the other model come in.
    merges: bool,
    drops_optional: bool,
    renames: bool,
    /// By the place in the list of tensors.
    ranks: Vec<usize>,
    alignment: Option<u32>,
    adds_key: bool,
    drops_key: bool,
    drops_our_keys: bool,
    /// Into which file each tensor goes.
    shards: Vec<usize>,
}

const MOST_TENSORS: usize = 11;
const MOST_SHARDS: usize = 3;

fn changes() -> impl Strategy<Value = Change> {
    let rarely = || prop::bool::weighted(0.2);
    let alignment = prop::option::weighted(0.4, select(&[1u32, 16, 32, 64, 128, 65536][..]));
    let shards = prop_oneof![
        Just(vec![0; MOST_TENSORS]),
        prop::collection::vec(0..MOST_SHARDS, MOST_TENSORS..=MOST_TENSORS),
    ];
    let ranks = Just((0..MOST_TENSORS).collect::<Vec<_>>()).prop_shuffle();
    let tensors = (rarely(), rarely(), rarely(), ranks);
    (tensors, alignment, rarely(), rarely(), rarely(), shards).prop_map(
        |(
            (merges, drops_optional, renames, ranks),
            alignment,
            adds_key,
            drops_key,
            drops_our_keys,
            shards,
        )| {
            Change {
                merges,
                drops_optional,
                renames,
                ranks,
                alignment,
                adds_key,
                drops_key,
                drops_our_keys,
                shards,
            }
        },
    )
}

impl Change {
    /// What becomes of a file, the other being the one that comes in.
    fn apply(&self, file: &File, other: &File) -> Vec<File> {
        let mut names: Vec<_> = PAIRS.iter().flat_map(|pair| &pair.original.tensors).collect();
        names.sort_by_key(|tensor| self.ranks[place_of(&tensor.name)]);
        let find = |name: &str| file.tensors.iter().chain(&other.tensors).find(|tensor| tensor.name == name);
        let is_there = |name: &str| {
            (self.merges || !name.starts_with("other"))
                && !(self.drops_optional && name.starts_with("left out"))
        };
        let mut shards =
            vec![File { tensors: Vec::new(), filler: 0, trailing: 0, ..file.clone() }; MOST_SHARDS];
        for name in names.into_iter().map(|tensor| &tensor.name).filter(|name| is_there(name)) {
            let mut tensor = find(name).unwrap().clone();
            if self.renames && name == "norm" {
                tensor.name = "renamed".to_owned();
            }
            shards[self.shards[place_of(name)]].tensors.push(tensor);
        }
        let parts = shards.iter().filter(|shard| !shard.tensors.is_empty()).count();
        shards.retain(|shard| !shard.tensors.is_empty());
        for (i, shard) in shards.iter_mut().enumerate() {
            self.change_keys(shard);
            if parts > 1 {
                shard.kv.push(("split.no".to_owned(), Value::u32(i as u32)));
            }
            let order: Vec<_> = (0..shard.tensors.len()).map(|i| (i, 0)).collect();
            shard.place(&order);
        }
        shards
    }

    /// Names of tensors that were there, and are no more.
    fn missing(&self) -> HashSet<&'static str> {
        let gone = |name: &&str| {
            self.drops_optional && name.starts_with("left out") || self.renames && *name == "norm"
        };
        let before =
            PAIRS.iter().take(if self.merges { 2 } else { 1 }).flat_map(|pair| names(&pair.original));
        before.filter(gone).collect()
    }

    fn change_keys(&self, file: &mut File) {
        if let Some(alignment) = self.alignment {
            let pair = file.kv.iter_mut().find(|(key, _)| key == "general.alignment").unwrap();
            pair.1 = Value::u32(alignment);
        }
        if self.drops_key {
            file.kv.retain(|(key, _)| key != "general.name");
        }
        if self.drops_our_keys {
            file.kv.retain(|(key, _)| !KEYS.contains(&key.as_str()));
        }
        if self.adds_key {
            file.kv.insert(1.min(file.kv.len()), ("added".to_owned(), Value::u32(7)));
        }
    }
}

/// The place of a tensor among those of both models.
fn place_of(name: &str) -> usize {
    let mut tensors = PAIRS.iter().flat_map(|pair| &pair.original.tensors);
    tensors.position(|tensor| tensor.name == name).unwrap()
}

fn names(file: &File) -> HashSet<&str> {
    file.tensors.iter().map(|tensor| tensor.name.as_str()).collect()
}

proptest! {
    #[test]
    fn tensors_come_back_wherever_they_are(change in changes()) {
        let [one, other] = &*PAIRS;
        let converted = change.apply(&one.converted, &other.converted);
        let expected = change.apply(&one.original, &other.original);
        let bytes: Vec<_> = converted.iter().map(File::to_bytes).collect();
        for (i, mut expected) in expected.into_iter().enumerate() {
            let others: Vec<_> = (0..bytes.len()).filter(|&j| j != i).map(|j| &bytes[j][..]).collect();
            let parsed: Vec<_> = others.iter().map(|bytes| Gguf::parse(bytes).unwrap()).collect();
            let opened = Converted::open(Gguf::parse(&bytes[i]).unwrap(), &parsed);
            if change.drops_our_keys && names(&expected).is_subset(&HashSet::from(["renamed"])) {
                prop_assert_eq!(opened.map(|_| ()), Err(ConvertedError::NotUnweight));
                continue;
            }
            let is_whole = bytes.len() == 1
                && expected.metadata() == one.original.metadata()
                && names(&expected) == names(&one.original);
            let opened = opened.unwrap();
            prop_assert_eq!(opened.untouched().is_some(), is_whole);
            prop_assert_eq!(opened.missing().collect::<HashSet<_>>(), change.missing());
            let restored = restore_shard(&bytes[i], &others).unwrap();
            if is_whole {
                prop_assert!(restored == one.original.to_bytes());
            } else {
                let len = expected.to_bytes().len();
                expected.trailing = len.next_multiple_of(expected.alignment() as usize) - len;
                prop_assert!(restored == expected.to_bytes());
            }
        }
    }
}

/// As llama-gguf-split writes it where it is told to: keys and no tensors.
#[test]
fn a_shard_without_tensors_comes_back() {
    let Pair { original, converted } = &PAIRS[0];
    let first = File { tensors: Vec::new(), ..converted.clone() }.to_bytes();
    let second = File { kv: vec![], ..converted.clone() }.to_bytes();
    let expected = File { tensors: Vec::new(), trailing: 0, filler: 0, ..original.clone() };
    assert_eq!(restore_shard(&first, &[&second]).unwrap(), expected.to_bytes());
    let restored = File::read(&restore_shard(&second, &[&first]).unwrap());
    assert_eq!(names(&restored), names(original));
    for tensor in &restored.tensors {
        assert!(tensor.data == original.tensors[place_of(&tensor.name)].data, "{}", tensor.name);
    }
}
