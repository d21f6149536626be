//! The hook for a policy.

use crate::io::{Flow, Verdict};

/// Decides what may leave. Called on the device's thread, once per connect, and once per datagram destination
/// while it stays the same; must not block.
pub trait Policy: Send + Sync {
    /// The verdict on a flow.
    fn decide(&self, flow: &Flow) -> Verdict;

    /// A number that changes whenever a verdict may have changed.
    fn generation(&self) -> u64 {
        0
    }
}
