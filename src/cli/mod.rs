//! The command line: a file per verb. Logic that is not about files and people lives in the library.

mod bench;
mod blob;
mod convert;
mod input;
mod inspect;
mod naming;
mod original;
mod output;
mod parts;
mod progress;
mod restore;
mod survey;
mod table;
mod verify;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes BF16 GGUF models about 30 % smaller without changing one bit of them.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed or not identical (standard error says why), 2 wrong usage.";

#[derive(Subcommand)]
enum Verb {
    /// Write the compressed form of a BF16 GGUF file
    Convert(convert::Arguments),
    /// Give back the original file, byte for byte
    Restore(restore::Arguments),
    /// Prove that a compressed file holds its original
    Verify(verify::Arguments),
    /// Show what is in each tensor of a compressed or an original file
    Inspect(inspect::Arguments),
    /// Measure this machine: kernels, files, and llama.cpp with --llama
    Bench(bench::Arguments),
}

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // 0 is "all cores". This thread is one of them: to hand each window over to another would cost more than some of them take.
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(arguments.threads.unwrap_or(0)).use_current_thread();
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
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unweight-gguf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A reader of our output that has seen enough (`| head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
