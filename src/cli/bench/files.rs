//! convert and restore in both forms, beside a plain copy and a general compressor, written beside the original and forced to its disk. The
//! page cache is warm: the first round only warms it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use unweight::convert::{Form, convert, restore};

use super::sample::{Sample, ratio};
use super::{Row, folder_beside, thread_counts};

/// Of larger files zstd -19 would take hours.
const MOST_FOR_19: u64 = 400_000_000;

/// What to time: its name, how many threads it uses, and the file that it writes.
struct Step<'a> {
    what: &'static str,
    threads: usize,
    writes: &'static str,
    /// Takes minutes: measured once.
    once: bool,
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
    let pools = thread_counts()
        .into_iter()
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build())
        .collect::<Result<Vec<_>, _>>()?;
    let step = |what, threads, writes, run| Step { what, threads, writes, once: false, run };
    let mut steps: Vec<Step> = vec![
        step("copy", 1, "copy", Box::new(copy)),
        step("zstd -3", 1, "zstd", Box::new(|| zstd(original, &path("zstd"), 3, false))),
        step("zstd -3 -d", 1, "unpacked", Box::new(|| unzstd(&path("zstd"), &path("unpacked")))),
    ];
    let is_small = bytes < MOST_FOR_19;
    if is_small {
        let run = || zstd(original, &path("zstd-19"), 19, true);
        steps.push(Step { once: true, ..step("zstd -19 --long", 1, "zstd-19", Box::new(run)) });
    }
    let path = &path;
    for pool in &pools {
        let convert = |from: &str, to: &str, form| {
            let from = if from.is_empty() { original.to_owned() } else { path(from) };
            pool.install(|| Ok(convert(&from, &path(to), form, true, &()).map(drop)?))
        };
        let restore =
            |from: &str, to: &str| pool.install(|| Ok(restore(&path(from), &path(to), true, &()).map(drop)?));
        let threads = pool.current_num_threads();
        let mut add = |what, writes, run| steps.push(step(what, threads, writes, run));
        add("convert", "runs", Box::new(move || convert("", "runs", Form::Run)));
        add("restore", "restored", Box::new(move || restore("runs", "restored")));
        add("convert --archive", "archive", Box::new(move || convert("", "archive", Form::Archive)));
        add("restore an archive", "restored-2", Box::new(move || restore("archive", "restored-2")));
        add("convert an archive", "runs-2", Box::new(move || convert("archive", "runs-2", Form::Run)));
    }
    let mut rates = vec![Vec::new(); steps.len()];
    for round in 0..=rounds {
        for (rates, step) in rates.iter_mut().zip(&steps) {
            if step.once && !rates.is_empty() {
                continue;
            }
            // To replace a file costs more than to make one.
            let _ = fs::remove_file(path(step.writes));
            let start = Instant::now();
            (step.run)()?;
            if round > 0 || step.once {
                rates.push(bytes as f64 / 1e9 / start.elapsed().as_secs_f64());
            }
        }
    }
    let row = |what: String, threads, unit, sample, ratio| Row { what, threads, unit, sample, ratio };
    let of_rates = steps.iter().zip(&rates).enumerate().map(|(i, (step, values))| {
        let ratio = (i > 0).then(|| ratio(values, &rates[0]));
        row(step.what.to_owned(), step.threads, "GB/s of original", Sample::of(values), ratio)
    });
    let mut rows: Vec<_> = of_rates.collect();
    let sizes = [
        ("zstd -3", "zstd"),
        ("zstd -19 --long", "zstd-19"),
        ("convert", "runs"),
        ("convert --archive", "archive"),
    ];
    for (what, name) in sizes.into_iter().filter(|(_, name)| is_small || *name != "zstd-19") {
        let share = 100.0 * fs::metadata(path(name))?.len() as f64 / bytes as f64;
        rows.push(row(format!("size by {what}"), 1, "% of original", Sample::of(&[share]), None));
    }
    Ok(rows)
}

fn zstd(from: &Path, to: &Path, level: i32, long: bool) -> Result<()> {
    let mut encoder = zstd::Encoder::new(BufWriter::new(File::create(to)?), level)?;
    if long {
        encoder.long_distance_matching(true)?;
        encoder.window_log(27)?;
    }
    std::io::copy(&mut BufReader::with_capacity(1 << 20, File::open(from)?), &mut encoder)?;
    Ok(encoder.finish()?.into_inner().map_err(|error| error.into_error())?.sync_all()?)
}

fn unzstd(from: &Path, to: &Path) -> Result<()> {
    let mut decoder = zstd::Decoder::new(File::open(from)?)?;
    let mut file = File::create(to)?;
    std::io::copy(&mut decoder, &mut file)?;
    Ok(file.sync_all()?)
}
