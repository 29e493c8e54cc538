//! The GGUF reader: what it accepts, it can be asked about, and all tensors lie in the file.

use unweight::container::converted::Converted;
use unweight::container::gguf::Gguf;
use unweight::container::parts::parts_of;
use unweight::container::restored::Restored;

use crate::samples;

pub fn run(data: &[u8]) {
    let Ok(gguf) = Gguf::parse(data) else { return };
    assert!(gguf.header_len <= data.len() as u64);
    for tensor in &gguf.tensors {
        assert_eq!(gguf.bytes(tensor).len() as u64, tensor.len);
        assert!(gguf.tensor(tensor.name).is_some());
    }
    for pair in &gguf.kv {
        assert!(pair.as_u32().is_none() || pair.as_str().is_none());
    }
    if let Ok(parts) = parts_of(&gguf, data.len() as u64) {
        let mut end = 0;
        for (_, range) in parts {
            assert_eq!(range.start, end, "parts lie side by side");
            end = range.end;
        }
        assert_eq!(end, data.len() as u64);
    }
    let again = Gguf::parse_header(&data[..gguf.header_len as usize], data.len() as u64);
    assert_eq!(again.expect("the same header").tensors.len(), gguf.tensors.len());
    if let Ok(converted) = Converted::open(gguf, &[]) {
        let _ = Restored::of(&converted);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    samples::originals().into_iter().chain(samples::converted().iter().cloned()).collect()
}
