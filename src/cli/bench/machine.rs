use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use unweight::kernel::Isa;

/// Where and when figures were taken.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    /// Instruction set of our kernels.
    isa: &'static str,
    /// Seconds since 1970.
    time: u64,
}

impl Machine {
    pub fn of_this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let family = match (field("cpu family"), field("model\t")) {
            (Some(family), Some(model)) => format!(" (family {family}, model {model})"),
            _ => String::new(),
        };
        Self {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()) + &family,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            isa: Isa::used().name(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {} kernels", self.cpu, self.cores, self.isa)
    }
}
