//! convert and restore, beside a plain copy and a general compressor. The page cache is warm: the first round only warms it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::Row;
use super::sample::{Sample, ratio};
use crate::cli::convert;
use crate::cli::input::Input;
use crate::cli::restore::restore;

const ZSTD_LEVEL: i32 = 3;

/// A name, how many threads it uses, and what to time.
type Step<'a> = (&'static str, usize, &'a dyn Fn() -> Result<()>);

pub fn measure(original: &Path, rounds: u32) -> Result<Vec<Row>> {
    let input = Input::open(original)?;
    let beside = original.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".unweight-bench-").tempdir_in(beside)?;
    let path = |name: &str| temporary.path().join(name);
    let threads = rayon::current_num_threads();
    let steps: [Step; 4] = [
        ("copy, to disk", 1, &|| {
            fs::copy(original, path("copy"))?;
            Ok(File::open(path("copy"))?.sync_all()?)
        }),
        ("zstd -3, to disk", 1, &|| {
            let mut encoder = zstd::Encoder::new(BufWriter::new(File::create(path("zstd"))?), ZSTD_LEVEL)?;
            std::io::copy(&mut BufReader::with_capacity(1 << 20, File::open(original)?), &mut encoder)?;
            Ok(encoder.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?)
        }),
        ("convert, to disk", threads, &|| convert::quietly(&input, &path("converted"))),
        ("restore, to disk", threads, &|| {
            restore(&Input::open(&path("converted"))?, &path("restored"), true).map(drop)
        }),
    ];
    let mut rates = vec![Vec::new(); steps.len()];
    for round in 0..=rounds {
        for (rates, (_, _, step)) in rates.iter_mut().zip(&steps) {
            let start = Instant::now();
            step()?;
            if round > 0 {
                rates.push(input.len() as f64 / 1e9 / start.elapsed().as_secs_f64());
            }
        }
    }
    let rows = steps.iter().zip(&rates).enumerate().map(|(i, ((what, threads, _), values))| Row {
        what: (*what).to_owned(),
        threads: *threads,
        unit: "GB/s of original",
        sample: Sample::of(values),
        ratio: (i > 0).then(|| ratio(values, &rates[0])),
    });
    Ok(rows.collect())
}
