//! Damaged files, and files that are not the original.

use std::fs;
use std::path::Path;

use unweight::container::converted::Converted;
use unweight::container::gguf::Gguf;

use crate::program::{EDGES, Folder, TINY, fails};

#[test]
fn files_cut_anywhere_are_refused() {
    let folder = Folder::new();
    let converted = fs::read(folder.converted(EDGES)).unwrap();
    for eighth in 0..8 {
        let cut = folder.file("cut.gguf", &converted[..converted.len() * eighth / 8]);
        fails(&["verify", &cut], &["cut.gguf"]);
        fails(&["restore", &cut, &folder.path("out.gguf")], &["cut.gguf"]);
    }
    assert!(!Path::new(&folder.path("out.gguf")).exists());
}

#[test]
fn damage_is_found_and_its_tensor_named() {
    let folder = Folder::new();
    let bytes = fs::read(folder.converted(TINY)).unwrap();
    let converted = Converted::open(Gguf::parse(&bytes).unwrap(), &[]).unwrap();
    let index = converted.untouched().unwrap();
    let entry = index.carriers().nth(3).unwrap();
    let located = converted.locate(&entry.name).unwrap().unwrap();
    let carrier = &index.carrier(&index.rooms[entry.pieces()[0].room as usize]).name;
    assert_ne!(*carrier, entry.name, "a piece in the room of another");
    let position = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
    // In its home, and in its piece: there, it is the room that verifying finds first.
    for (at, verified) in
        [(position(located.home) + 70, &entry.name), (position(located.pieces[0].1) + 70, carrier)]
    {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let damaged = folder.file("damaged.gguf", &damaged);
        fails(&["verify", &damaged], &["damaged.gguf", verified, "damaged"]);
        fails(&["restore", &damaged, &folder.path("out.gguf")], &[&entry.name, "damaged"]);
        assert!(!Path::new(&folder.path("out.gguf")).exists());
    }
}

#[test]
fn another_file_is_told_from_the_original() {
    let folder = Folder::new();
    let converted = folder.converted(TINY);
    let mut other = fs::read(TINY).unwrap();
    let at = other.len() - 1000;
    other[at] ^= 1;
    let other = folder.file("other.gguf", &other);
    fails(&["verify", &converted, "--against", &other], &[&format!("at byte {at}"), "output.weight"]);
    fails(&["verify", &converted, "--against", EDGES], &["bytes"]);
}
