//! Progress on a terminal; nothing elsewhere.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use unweight::convert::{Progress, Stage};

/// A bar for each stage, one after the other.
#[derive(Default)]
pub struct Bar(Mutex<State>);

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    /// "2/3 ": of several files.
    file: String,
}

impl Bar {
    fn with(&self, use_it: impl FnOnce(&mut State)) {
        use_it(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Removes the bar from the screen.
    pub fn finish(&self) {
        self.with(|state| state.bar.iter().for_each(ProgressBar::finish_and_clear));
    }
}

impl Progress for Bar {
    fn file(&self, number: usize, of: usize) {
        self.with(|state| state.file = if of > 1 { format!("{number}/{of} ") } else { String::new() });
    }

    fn begin(&self, stage: Stage, bytes: u64) {
        let what = match stage {
            Stage::Reading => "reading",
            Stage::Coding => "coding",
            Stage::Writing => "writing",
            Stage::Restoring => "restoring",
            Stage::Verifying => "verifying",
        };
        self.finish();
        self.with(|state| state.bar = Some(new(format!("{}{what}", state.file), bytes)));
    }

    fn advance(&self, bytes: u64) {
        self.with(|state| state.bar.iter().for_each(|bar| bar.inc(bytes)));
    }
}

fn new(what: String, bytes: u64) -> ProgressBar {
    // Standard error; indicatif hides the bar where that is no terminal.
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = "{msg:>9} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template").progress_chars("=> "));
    bar.with_message(what)
}

/// A length for people: "1.23 GB".
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
