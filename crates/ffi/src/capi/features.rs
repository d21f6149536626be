//! What this build has.

use super::guard::{Failure, call};

const INIT_BLOB: u64 = 11;
const LAST_FEATURE: u64 = INIT_BLOB;

/// 1 for a feature (`KRUN_FEATURE_*`) that is built in, 0 for one that is not. Does not look at the host.
#[unsafe(no_mangle)]
pub extern "C" fn krun_has_feature(feature: u64) -> i32 {
    call(|| match feature {
        INIT_BLOB => Ok(1),
        0..=LAST_FEATURE => Ok(0),
        _ => Err(Failure::invalid(format!("feature: {feature} is not known"))),
    })
}
