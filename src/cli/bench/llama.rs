//! llama.cpp's own benchmark, on the original and on the compressed file in turn.

use std::collections::BTreeMap;
use std::fs::File;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::sample::{Sample, ratio};
use super::{Row, folder_beside, thread_counts};

/// Columns in a batch: small ones (speculative decoding, several users), and prompts.
const BATCHES: &str = "2,4,8,128";
/// From here on they are called a prompt.
const PROMPT: u32 = 128;
const GENERATED: &str = "32";

/// One line of llama-bench's JSON.
#[derive(Deserialize)]
struct Test {
    n_prompt: u32,
    n_gen: u32,
    avg_ts: f64,
}

type Speeds = BTreeMap<(u32, u32), Vec<f64>>;

pub fn measure(folder: &Path, original: &Path, plugin: &Path, rounds: u32) -> Result<Vec<Row>> {
    let temporary = folder_beside(original)?;
    let compressed = temporary.path().join("compressed.gguf");
    unweight::convert::convert(original, &compressed, unweight::convert::Form::Run, true, &())?;
    // Mapped pages cost more or less depending on how they came into the page cache.
    settle(original)?;
    settle(&compressed)?;
    let program = folder.join("llama-bench");
    let mut rows = Vec::new();
    for threads in thread_counts() {
        let (mut plain, mut ours) = (Speeds::new(), Speeds::new());
        for _ in 0..rounds {
            one_round(&program, original, None, threads, &mut plain)?;
            one_round(&program, &compressed, Some(plugin), threads, &mut ours)?;
        }
        for (&(prompt, generated), base) in &plain {
            let values =
                ours.get(&(prompt, generated)).context("llama-bench ran different tests on the two files")?;
            let what = match (generated, prompt) {
                (0, 0..PROMPT) => format!("batch of {prompt}"),
                (0, _) => format!("prompt of {prompt}"),
                _ => "generation".to_owned(),
            };
            let row = |name: &str, values: &[f64], ratio| Row {
                what: format!("{what}, {name}"),
                threads,
                unit: "tokens/s",
                sample: Sample::of(values),
                ratio,
            };
            rows.push(row("original", base, None));
            rows.push(row("compressed", values, Some(ratio(values, base))));
        }
    }
    Ok(rows)
}

/// Has a file read into the page cache anew, as any program would that reads it from its beginning to its end.
fn settle(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    // SAFETY: advice on an open file; what is dropped is on the disk.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED)
    };
    std::io::copy(&mut file, &mut std::io::sink())?;
    Ok(())
}

fn one_round(
    program: &Path,
    model: &Path,
    plugin: Option<&Path>,
    threads: usize,
    speeds: &mut Speeds,
) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("-m").arg(model).args(["-t", &threads.to_string(), "-r", "1", "-o", "json"]);
    command.args(["-p", BATCHES, "-n", GENERATED]).env_remove("GGML_BACKEND_PATH");
    if let Some(plugin) = plugin {
        command.env("GGML_BACKEND_PATH", plugin);
    }
    let output = command.output().with_context(|| program.display().to_string())?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed on {}: {}",
            program.display(),
            model.display(),
            errors.lines().last().unwrap_or_default()
        );
    }
    let tests: Vec<Test> = serde_json::from_slice(&output.stdout).context("llama-bench's output")?;
    for test in tests {
        speeds.entry((test.n_prompt, test.n_gen)).or_default().push(test.avg_ts);
    }
    Ok(())
}
