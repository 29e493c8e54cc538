//! Runs targets without a fuzzer that searches:
//!     unweight-fuzz short [SECONDS]       each target on its seeds, the inputs of past failures, and mutations of seeds for so long
//!     unweight-fuzz seeds DIR             writes the seeds, a folder for each target, for cargo-fuzz to start from
//!     unweight-fuzz replay TARGET FILE... runs these inputs

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use unweight_fuzz::mutation::mutate;
use unweight_fuzz::samples;
use unweight_fuzz::targets::{ALL, Target};

/// Inputs that once did harm, a folder for each target.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
/// Larger inputs find no more, and take longer.
const MOST_BYTES: usize = 1 << 17;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread: many small inputs, and the same order each time.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build_global()
        .expect("the first pool");
    match &words[..] {
        ["short"] => short(2.0),
        ["short", seconds] => match seconds.parse() {
            Ok(seconds) => short(seconds),
            Err(_) => return usage(),
        },
        ["seeds", folder] => seeds(Path::new(folder)),
        ["replay", name, files @ ..] => match ALL.iter().find(|target| target.name == *name) {
            Some(target) => files.iter().for_each(|file| (target.run)(&fs::read(file).expect("a file"))),
            None => return usage(),
        },
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names: Vec<_> = ALL.iter().map(|target| target.name).collect();
    eprintln!("usage: unweight-fuzz short [SECONDS] | seeds DIR | replay TARGET FILE...");
    eprintln!("targets: {}", names.join(" "));
    ExitCode::from(2)
}

fn short(seconds: f64) {
    let mut passed = 0;
    for target in &ALL {
        let (runs, regressions) = run(target, Duration::from_secs_f64(seconds));
        println!("{}: {runs} inputs, {regressions} of them once did harm", target.name);
        passed += 1;
    }
    fs::remove_dir_all(samples::scratch()).expect("ours");
    println!("{passed} passed, 0 failed");
}

fn run(target: &Target, time: Duration) -> (u64, u64) {
    let (mut runs, mut regressions) = (0, 0);
    let mut paths: Vec<_> = fs::read_dir(Path::new(REGRESSIONS).join(target.name)).map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.expect("an entry").path()).collect(),
    );
    paths.sort();
    for path in paths {
        (target.run)(&fs::read(path).expect("a file"));
        (runs, regressions) = (runs + 1, regressions + 1);
    }
    let seeds = (target.seeds)();
    for seed in &seeds {
        (target.run)(seed);
        runs += 1;
    }
    let seeds: Vec<_> = seeds.into_iter().filter(|seed| seed.len() <= MOST_BYTES).collect();
    let kept = samples::scratch().join(target.name);
    println!("{}: the last input is in {}", target.name, kept.display());
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(0);
    while start.elapsed() < time {
        let mut input = seeds[random.usize(..seeds.len())].clone();
        mutate(&mut input, &mut random);
        // A kernel that leaves its memory ends the process.
        fs::write(&kept, &input).expect("a folder that can be written");
        (target.run)(&input);
        runs += 1;
    }
    (runs, regressions)
}

fn seeds(folder: &Path) {
    for target in &ALL {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).expect("a folder that can be written");
        for (i, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{i:03}")), seed).expect("a folder that can be written");
        }
    }
}
