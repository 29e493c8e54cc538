//! Weights of every kind, and of every kind in disguise.

use std::fs;

use unweight::codec::Number;
use unweight::container::gguf::TensorType;

use crate::file::{File, Tensor};
use crate::models::{matrix, model, tensors};
use crate::program::{Folder, command, failure, succeeds};
use crate::samples::weights;

/// What weights are in the original, and what they can be stored as.
const KINDS: [(Number, Number); 6] = [
    (Number::Bf16, Number::Bf16),
    (Number::F16, Number::Bf16),
    (Number::F32, Number::Bf16),
    (Number::F16, Number::F16),
    (Number::F32, Number::F16),
    (Number::F32, Number::F32),
];

fn ty(number: Number) -> TensorType {
    match number {
        Number::Bf16 => TensorType::BF16,
        Number::F16 => TensorType::F16,
        Number::F32 => TensorType::F32,
    }
}

/// Zeros, the least and the largest subnormal and normal numbers, infinities: bits of F16.
const EDGES: [u16; 8] = [0, 0x8000, 1, 0x83FF, 0x0400, 0x7BFF, 0x7C00, 0xFC00];
/// Of these, what BF16 has too.
const SHORT_EDGES: [u16; 8] = [0, 0x8000, 1, 0x80FF, 0x0400, 0x7BF8, 0x7C00, 0xFC00];
/// Quiet and signalling.
const NANS: [u16; 4] = [0x7E00, 0xFFFF, 0x7C01, 0xFD55];
/// The same, of F32.
const EDGES32: [u32; 12] = [
    0,
    0x8000_0000,
    1,
    0x807F_FFFF,
    0x0080_0000,
    0x7F7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x7FC0_0000,
    0xFFFF_FFFF,
    0x7F80_0001,
    0xFFA5_5AA5,
];

/// Values at the edges of what can be stored so.
fn edges(original: Number, stored: Number) -> Vec<u8> {
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let singles = |bits: &mut dyn Iterator<Item = u32>| bits.flat_map(u32::to_le_bytes).collect();
    match (original, stored) {
        (Number::Bf16, _) => EDGES32.iter().flat_map(|bits| ((bits >> 16) as u16).to_le_bytes()).collect(),
        (Number::F16, Number::Bf16) => halves(&SHORT_EDGES),
        (Number::F16, _) => halves(&[&EDGES[..], &NANS].concat()),
        (Number::F32, Number::Bf16) => singles(&mut EDGES32.iter().map(|bits| bits >> 16 << 16)),
        (Number::F32, Number::F16) => {
            singles(&mut EDGES.iter().map(|&half| half::f16::from_bits(half).to_f32().to_bits()))
        }
        (Number::F32, Number::F32) => singles(&mut EDGES32.iter().copied()),
    }
}

/// A matrix of weights that can be stored so, the first of which are at the edges.
fn coded(name: &str, original: Number, stored: Number, dims: &[u64]) -> Tensor {
    let n: u64 = dims.iter().product();
    let mut data = weights(original, stored, n as usize, 2, n + name.len() as u64);
    let edges = edges(original, stored);
    data[..edges.len()].copy_from_slice(&edges);
    Tensor { data, ..Tensor::new(name, ty(original), dims, 0) }
}

/// A model of one kind of weights that can be stored so.
fn of(original: Number, stored: Number) -> File {
    let plain = |tensor: Tensor| match tensor.ty == TensorType::BF16.id() {
        true => coded(&tensor.name, original, stored, &tensor.dims),
        false => tensor,
    };
    model("llama", tensors().into_iter().map(plain).collect())
}

fn inspected(path: &str) -> serde_json::Value {
    serde_json::from_str(&succeeds(&["inspect", "--json", path])).unwrap()
}

/// Tensors by name, with what is said of them.
fn said(report: &serde_json::Value, name: &str, what: &str) -> serde_json::Value {
    let tensors = report["tensors"].as_array().unwrap();
    tensors.iter().find(|tensor| tensor["name"] == name).unwrap()[what].clone()
}

#[test]
fn every_kind_comes_back() {
    for (original, stored) in KINDS {
        let folder = Folder::new();
        let file = of(original, stored);
        let path = folder.file("original.gguf", &file.to_bytes());
        let converted = folder.converted(&path);
        assert!(fs::metadata(&converted).unwrap().len() < fs::metadata(&path).unwrap().len());
        folder.gives_back(&converted, &path);
        succeeds(&["verify", &converted, "--against", &path]);

        let (before, after) = (inspected(&path), inspected(&converted));
        for tensor in file.tensors.iter().filter(|tensor| tensor.dims.len() > 1) {
            let said = |what| said(&after, &tensor.name, what);
            assert_eq!(said("type"), original.name());
            assert_eq!(said("numbers"), stored.name(), "{} in {}", stored.name(), original.name());
            let encoding = said("encoding").as_str().unwrap().to_uppercase();
            assert!(encoding.starts_with(stored.name()), "{encoding}");
            assert_eq!(self::said(&before, &tensor.name, "numbers"), stored.name());
        }
    }
}

/// Every kind in one file, with quantized weights among them.
fn mixed() -> File {
    let coded = KINDS.into_iter().enumerate().map(|(i, (original, stored))| {
        coded(&format!("blk.{i}.ffn_up.weight"), original, stored, &[96, 120 + i as u64])
    });
    let quantized = (0..2).map(|i| matrix(&format!("blk.{i}.ffn_down.weight"), TensorType::Q8_0, &[64, 24]));
    let table = matrix("token_embd.weight", TensorType::BF16, &[96, 400]);
    model("llama", std::iter::once(table).chain(quantized).chain(coded).collect())
}

#[test]
fn files_of_many_kinds_come_back() {
    let folder = Folder::new();
    let path = folder.file("mixed.gguf", &mixed().to_bytes());
    let files = ["1", "3"].map(|threads| {
        let converted = folder.path(threads);
        succeeds(&["--threads", threads, "convert", &path, &converted]);
        folder.gives_back(&converted, &path);
        fs::read(converted).unwrap()
    });
    assert!(files[0] == files[1]);
    let report = inspected(&folder.path("1"));
    for (i, (original, stored)) in KINDS.into_iter().enumerate() {
        let said = |what| said(&report, &format!("blk.{i}.ffn_up.weight"), what);
        assert_eq!((said("type"), said("numbers")), (original.name().into(), stored.name().into()));
    }
    assert_eq!(said(&report, "blk.0.ffn_down.weight", "encoding"), "plain");
    assert_eq!(said(&report, "blk.0.ffn_down.weight", "numbers"), serde_json::Value::Null);
}

#[test]
fn what_is_saved_is_said_of_each_kind() {
    let folder = Folder::new();
    let path = folder.file("mixed.gguf", &mixed().to_bytes());
    let converted = folder.converted(&path);
    let (table, dry) = (succeeds(&["inspect", &converted]), succeeds(&["convert", "--dry-run", &path]));
    for report in [&table, &dry] {
        for line in [
            "BF16: 2 tensors, ",
            "BF16 in F16: 1 tensor, ",
            "BF16 in F32: 1 tensor, ",
            "F16: 1 tensor, ",
            "F16 in F32: 1 tensor, ",
            "F32: 1 tensor, ",
        ] {
            let found = report.lines().find(|found| found.starts_with(line));
            assert!(found.is_some_and(|found| found.ends_with(" % smaller")), "{report}");
        }
    }
    let quantized =
        "Q8_0: 2 tensors stay as they are, 3.3 kB; some 6 % could be gained, and are by --archive";
    assert!(dry.contains(quantized), "{dry}");
    let row = |name: &str| table.lines().find(|line| line.contains(name)).unwrap();
    assert!(row("blk.2.ffn_up.weight").contains("BF16 in F32"), "{table}");
}

#[test]
fn a_dry_run_on_quantized_weights_says_what_could_be_gained() {
    let folder = Folder::new();
    let file = model("llama", vec![matrix("blk.0.ffn_up.weight", TensorType::Q8_0, &[512, 64])]);
    let path = folder.file("quantized.gguf", &file.to_bytes());
    let output = command(&["convert", "--dry-run", &path]).output().unwrap();
    failure(&output, &["nothing to compress", "quantized"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Q8_0: 1 tensor stays as it is"), "{said}");
}

/// One weight of many is no BF16 number: then none is stored as one.
#[test]
fn nearly_is_not_enough() {
    let folder = Folder::new();
    for (original, stored, weight, expected) in [
        (Number::F32, Number::Bf16, &[1, 0, 0x80, 0x3F][..], "F32"),
        (Number::F32, Number::Bf16, &[0, 0x20, 0x80, 0x3F], "F32"),
        (Number::F32, Number::F16, &[0, 0x10, 0x80, 0x3F], "F32"),
        (Number::F32, Number::F16, &[0, 0, 0xC0, 0x7F], "F32"),
        (Number::F16, Number::Bf16, &[1, 0x3C], "F16"),
        (Number::F16, Number::Bf16, &[0, 0x7E], "F16"),
    ] {
        let mut file = of(original, stored);
        let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == "blk.1.ffn_up.weight").unwrap();
        let last = tensor.data.len() - weight.len();
        tensor.data[last..].copy_from_slice(weight);
        let path = folder.file("original.gguf", &file.to_bytes());
        let converted = folder.converted(&path);
        folder.gives_back(&converted, &path);
        let report = inspected(&converted);
        assert_eq!(said(&report, "blk.1.ffn_up.weight", "numbers"), expected, "{weight:02X?}");
        assert_eq!(said(&report, "blk.0.ffn_up.weight", "numbers"), stored.name());
    }
}

#[test]
fn the_default_name_says_what_most_weights_are() {
    for (original, stored) in KINDS {
        let folder = Folder::new();
        let file = of(original, stored).to_bytes();
        for (name, converted) in [
            (format!("Model-{}.gguf", original.name()), format!("Model-{}_UW.gguf", original.name())),
            ("model.gguf".to_owned(), format!("model-{}_UW.gguf", original.name())),
        ] {
            succeeds(&["convert", &folder.file(&name, &file)]);
            assert!(fs::exists(folder.path(&converted)).unwrap(), "{converted}");
        }
    }
}

/// Tensors that are read in several windows and coded in several chunks.
#[test]
fn large_tensors_of_every_kind_come_back() {
    for (original, stored) in KINDS {
        let folder = Folder::new();
        let shapes = [[4097, 400], [1 << 20, 3], [33, 40_000], [4097, 400]];
        let coded =
            |(i, dims): (usize, [u64; 2])| coded(&format!("blk.{i}.ffn_up.weight"), original, stored, &dims);
        let file = model("llama", shapes.into_iter().enumerate().map(coded).collect());
        let path = folder.file("large.gguf", &file.to_bytes());
        let converted = folder.converted(&path);
        folder.gives_back(&converted, &path);
        let report = inspected(&converted);
        let most = match stored {
            Number::Bf16 => 11.6,
            Number::F16 => 14.6,
            Number::F32 => 27.6,
        };
        let bits = report["total"]["bits_per_weight"].as_f64().unwrap();
        assert!(bits < most, "{} in {}: {bits}", stored.name(), original.name());
    }
}
