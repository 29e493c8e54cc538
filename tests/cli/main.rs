//! The program as people run it: files in, files out, messages and exit codes.
#![cfg(feature = "cli")]

mod damage;
#[allow(dead_code)]
#[path = "../container/file.rs"]
mod file;
mod files;
mod models;
mod numbers;
mod program;
mod refusals;
mod reports;
#[path = "../samples/mod.rs"]
mod samples;
mod shards;
mod systems;
mod torn;
