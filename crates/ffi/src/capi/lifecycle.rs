//! Contexts come and go.

use purlin_vmm_core::bundle::{Bundle, BundleSource};

use super::context::Context;
use super::guard::{call, done};
use super::table;

/// A new context. Loads libkrunfw; that it is missing is told by `krun_start_enter`, which alone knows
/// whether it is needed.
#[unsafe(no_mangle)]
pub extern "C" fn krun_create_ctx() -> i32 {
    call(|| table::insert(Context::new(Bundle::open(&BundleSource::Soname))))
}

/// Forgets a context that was not started.
#[unsafe(no_mangle)]
pub extern "C" fn krun_free_ctx(ctx_id: u32) -> i32 {
    done(|| table::take(ctx_id).map(drop))
}
