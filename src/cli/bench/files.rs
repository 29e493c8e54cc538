//! convert and restore, beside a plain copy and a general compressor, written beside the original and forced to its disk. The page
//! cache is warm: the first round only warms it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use unweight::convert::{Form, convert, restore};

use super::sample::{Sample, ratio};
use super::{Row, folder_beside, thread_counts};

const ZSTD_LEVEL: i32 = 3;

/// What to time: its name, how many threads it uses, and the file that it writes.
struct Step<'a> {
    what: &'static str,
    threads: usize,
    writes: &'static str,
    run: Box<dyn Fn() -> Result<()> + 'a>,
}

pub fn measure(original: &Path, rounds: u32) -> Result<Vec<Row>> {
    let bytes = fs::metadata(original)?.len();
    let temporary = folder_beside(original)?;
    let path = |name: &str| temporary.path().join(name);
    let copy = || {
        fs::copy(original, path("copy"))?;
        Ok(File::open(path("copy"))?.sync_all()?)
    };
    let compress = || {
        let mut encoder = zstd::Encoder::new(BufWriter::new(File::create(path("zstd"))?), ZSTD_LEVEL)?;
        std::io::copy(&mut BufReader::with_capacity(1 << 20, File::open(original)?), &mut encoder)?;
        Ok(encoder.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?)
    };
    let pools = thread_counts()
        .into_iter()
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
        .collect::<Result<Vec<_>, _>>()?;
    let step = |what, threads, writes, run| Step { what, threads, writes, run };
    let mut steps: Vec<Step> =
        vec![step("copy", 1, "copy", Box::new(copy)), step("zstd -3", 1, "zstd", Box::new(compress))];
    for pool in &pools {
        let threads = pool.current_num_threads();
        let convert =
            || pool.install(|| Ok(convert(original, &path("converted"), Form::Run, true, &()).map(drop)?));
        let restore =
            || pool.install(|| Ok(restore(&path("converted"), &path("restored"), true, &()).map(drop)?));
        steps.push(step("convert", threads, "converted", Box::new(convert)));
        steps.push(step("restore", threads, "restored", Box::new(restore)));
    }
    let mut rates = vec![Vec::new(); steps.len()];
    for round in 0..=rounds {
        for (rates, step) in rates.iter_mut().zip(&steps) {
            // To replace a file costs more than to make one.
            let _ = fs::remove_file(path(step.writes));
            let start = Instant::now();
            (step.run)()?;
            if round > 0 {
                rates.push(bytes as f64 / 1e9 / start.elapsed().as_secs_f64());
            }
        }
    }
    let rows = steps.iter().zip(&rates).enumerate().map(|(i, (step, values))| Row {
        what: step.what.to_owned(),
        threads: step.threads,
        unit: "GB/s of original",
        sample: Sample::of(values),
        ratio: (i > 0).then(|| ratio(values, &rates[0])),
    });
    Ok(rows.collect())
}
