//! How a graph is refused without the program being killed.
//!
//! llama.cpp aborts where no device takes an operation. It gives up in good order where memory for a graph cannot be had, and it asks
//! for that right after it has asked on the same thread what we can compute. So we say yes, note the reason, and give no memory.

use std::cell::RefCell;

thread_local! {
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The graph that is being laid out on this thread cannot be computed.
pub fn refuse(reason: String) {
    REASON.with_borrow_mut(|noted| _ = noted.get_or_insert(reason));
}

/// Another graph is being laid out.
pub fn clear_refusal() {
    REASON.take();
}

/// Why the graph that is being laid out on this thread cannot be computed, if it cannot.
pub fn take_refusal() -> Option<String> {
    REASON.take()
}
