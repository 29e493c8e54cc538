//! Not a test: says what `cargo test` cannot cover here.

use unweight::kernel::Isa;

fn main() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.available()) {
        println!("SKIPPED: the {} kernels: this machine cannot run them", isa.name());
    }
    println!("SKIPPED: the plugin in llama.cpp: tests/run.sh builds llama.cpp and runs it");
}
