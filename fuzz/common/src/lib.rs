//! What the fuzz targets do, as functions that plain tests can call too: `tests/replay.rs` runs them over the committed
//! corpora on a stable compiler. One file per target; each function panics if a property does not hold.

mod section_decode;

pub use section_decode::section_decode;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its file in `fuzz_targets/` and of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[("section_decode", section_decode)];
