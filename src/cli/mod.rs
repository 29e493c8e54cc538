//! The command line: a file per verb. Logic that is not about files and people lives in the library.

mod bench;
mod convert;
mod files;
mod inspect;
mod naming;
mod numbers;
mod pages;
mod picture;
mod progress;
mod quantized;
mod restore;
mod signals;
mod table;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes full-precision GGUF models smaller without changing one bit of them, BF16 by 29 %, F32 that was BF16 by 65 %, and any GGUF file for
/// keeping and sending.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed or not identical (standard error says why), 2 wrong usage.";

#[derive(Subcommand)]
enum Verb {
    /// Write the compressed form of a GGUF file with BF16, F16 or F32 weights, or an archive of any
    Convert(convert::Arguments),
    /// Give back the original file, byte for byte
    Restore(restore::Arguments),
    /// Prove that a compressed file or an archive holds its original
    Verify(verify::Arguments),
    /// Show what is in each tensor of a compressed or an original file
    Inspect(inspect::Arguments),
    /// Measure this machine: kernels, files, and llama.cpp with --llama
    Bench(bench::Arguments),
    /// Write man pages and shell completions
    Pages(pages::Arguments),
}

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = signals::install() {
        eprintln!("unweight-gguf: {error}");
        return ExitCode::FAILURE;
    }
    // 0 is "all cores" for rayon. This thread is one of them: to hand each window over to another would cost more than some of them take.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads.map_or(0, usize::from))
        .use_current_thread();
    if let Err(error) = pool.build_global() {
        eprintln!("unweight-gguf: {error}");
        return ExitCode::FAILURE;
    }
    let result = match arguments.verb {
        Verb::Convert(arguments) => convert::run(&arguments),
        Verb::Restore(arguments) => restore::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Pages(arguments) => pages::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // What is said of no file is said of what is printed.
            let is_printing = error.is::<std::io::Error>() || error.is::<serde_json::Error>();
            let of = if is_printing { "standard output: " } else { "" };
            eprintln!("unweight-gguf: {of}{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A reader of our output that has seen enough (`| head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = || cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or_else(json)
    };
    error.chain().filter_map(kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
