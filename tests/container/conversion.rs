//! `convert` and `restore` in memory, with the oracle as the decoder.

use std::error::Error;

use unweight::codec::{Analysis, Encoder, Encoding, Shape, oracle};
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorInfo};
use unweight::container::layout::{Fate, Layout, LayoutError, Place};
use unweight::container::pool::{Entry, Extent, Index, PoolHeader, Remainder, Stored};
use unweight::container::restored;
use xxhash_rust::xxh3::xxh3_64;

/// Stands in for the BLAKE3 of the original, which only the program looks at.
const BLAKE3: [u8; 32] = [7; 32];

/// No test file has more bytes outside its header and tensors.
const MOST_BETWEEN: u64 = 1 << 16;

/// A tensor as a blob.
struct Coded {
    encoding: Encoding,
    blob: Vec<u8>,
}

fn coded(gguf: &Gguf, tensor: &TensorInfo, encoding: Encoding) -> Coded {
    let (pairs, _) = gguf.bytes(tensor).as_chunks();
    let weights: Vec<u16> = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
    let encoder =
        Encoder::forced(&Analysis::of(&weights), Shape::of(&tensor.dims).unwrap(), encoding).unwrap();
    Coded { encoding, blob: encoder.blob(&weights) }
}

/// The converted file of `original`, each tensor in the encoding that `encodings` gives it.
pub fn convert(original: &[u8], encodings: &[Option<Encoding>]) -> Result<Vec<u8>, LayoutError> {
    let gguf = Gguf::parse(original).unwrap();
    let tensors = || gguf.tensors.iter().zip(encodings);
    let blobs: Vec<_> =
        tensors().map(|(tensor, encoding)| encoding.map(|encoding| coded(&gguf, tensor, encoding))).collect();
    let fates: Vec<_> = blobs
        .iter()
        .map(|blob| blob.as_ref().map_or(Fate::Plain, |coded| Fate::Blob(coded.blob.len() as u64)))
        .collect();

    let extents = gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.len));
    let gaps = restored::gaps(gguf.header_len, gguf.alignment, extents, original.len() as u64).unwrap();
    let between: Vec<u8> =
        gaps.into_iter().flat_map(|gap| &original[gap.start as usize..gap.end as usize]).copied().collect();
    let frame = if between.iter().all(|&byte| byte == 0) {
        Vec::new()
    } else {
        zstd::encode_all(&between[..], 0).unwrap()
    };

    let layout = Layout::plan(&gguf, &fates, frame.len() as u64, "test")?;
    let mut file = vec![0; layout.file_len as usize];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, &layout.header);
    let mut entries = Vec::new();
    for (i, tensor) in gguf.tensors.iter().enumerate() {
        let bytes = gguf.bytes(tensor);
        let stored = match (layout.places[i], &blobs[i]) {
            (Place::Plain { position }, None) => {
                put(position, bytes);
                Stored::Plain
            }
            (Place::Blob { carrier_offset, extent }, Some(Coded { encoding, blob })) => {
                put(layout.pool_position + extent.offset, blob);
                Stored::Blob { encoding: encoding.id(), carrier_offset, extent, xxh3: xxh3_64(blob) }
            }
            other => panic!("a place that is not the tensor's fate: {:?}", other.0),
        };
        let &TensorInfo { name, ty, dims, offset, len } = tensor;
        entries.push(Entry { name: name.to_owned(), ty, dims, offset, len, xxh3: xxh3_64(bytes), stored });
    }
    if let Some(extent) = layout.remainder {
        put(layout.pool_position + extent.offset, &frame);
    }
    let index = Index {
        original_len: original.len() as u64,
        original_blake3: BLAKE3,
        metadata_len: gguf.metadata_len,
        metadata_xxh3: xxh3_64(&original[..gguf.metadata_len as usize]),
        remainder: layout.remainder.map(|extent| Remainder { extent, xxh3: xxh3_64(&frame) }),
        entries,
    };
    let bytes = index.to_bytes();
    assert_eq!(bytes.len() as u64, layout.index_len);
    let header = PoolHeader {
        pool_len: layout.pool_len,
        index_len: layout.index_len,
        tensors: index.entries.len() as u32,
        carriers: layout.carriers,
        index_xxh3: xxh3_64(&bytes),
    };
    put(layout.pool_position, &[&header.to_bytes()[..], &bytes].concat());
    Ok(file)
}

/// The original of a converted file, or, if a tool has changed the metadata, those with the original's tensors behind them.
pub fn restore(file: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let converted = Converted::open(Gguf::parse(file)?)?;
    let index = &converted.index;
    let mut out = restored::header(&converted.gguf, index);
    let extents = index.entries.iter().map(|entry| (entry.offset, entry.len));
    let alignment = converted.gguf.alignment;
    let Some(gaps) = restored::gaps(out.len() as u64, alignment, extents, index.original_len) else {
        return Err("the tensors leave the file".into());
    };
    let room: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    if room > MOST_BETWEEN {
        return Err("too many bytes between the tensors".into());
    }
    let mut between = match index.remainder {
        Some(Remainder { extent: Extent { offset, len }, xxh3 }) => {
            let frame = &converted.pool[offset as usize..(offset + len) as usize];
            if xxh3_64(frame) != xxh3 {
                return Err("the bytes between the tensors are damaged".into());
            }
            zstd::decode_all(frame)?
        }
        None => vec![0; room as usize],
    }
    .into_iter();

    let data_start = (out.len() as u64).next_multiple_of(alignment);
    let mut parts: Vec<_> = gaps.into_iter().map(|gap| (gap.start, gap.end - gap.start, None)).collect();
    let entries = index.entries.iter().filter(|entry| entry.len > 0);
    parts.extend(entries.map(|entry| (data_start + entry.offset, entry.len, Some(entry))));
    parts.sort_by_key(|part| part.0);
    for (_, len, entry) in parts {
        match entry {
            Some(entry) => out.extend(tensor(&converted, entry)?),
            None => out.extend(between.by_ref().take(len as usize)),
        }
    }
    Ok(out)
}

fn tensor(converted: &Converted, entry: &Entry) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = match entry.stored {
        Stored::Plain => converted.declared(entry).to_vec(),
        Stored::Blob { encoding, xxh3, .. } => {
            let blob = converted.blob(entry);
            if xxh3_64(blob) != xxh3 {
                return Err("the blob is damaged".into());
            }
            let encoding = Encoding::from_id(encoding).ok_or("an unknown encoding")?;
            let shape = Shape::of(&entry.dims).ok_or("a shape that overflows")?;
            oracle::decode(blob, encoding, shape)?.into_iter().flat_map(u16::to_le_bytes).collect()
        }
    };
    if xxh3_64(&bytes) == entry.xxh3 { Ok(bytes) } else { Err("the tensor is damaged".into()) }
}

/// Makes the checksums of a pool right again.
pub fn seal(pool: &mut [u8]) {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pool[at + i]));
    let index = usize::try_from(number(24)).ok().and_then(|len| pool[64..].get(..len)).map(xxh3_64);
    if let Some(index) = index {
        pool[40..48].copy_from_slice(&index.to_le_bytes());
    }
    let header = xxh3_64(&pool[..56]);
    pool[56..64].copy_from_slice(&header.to_le_bytes());
}
