//! Counters.

use crate::flow::{Decision, Reason};
use crate::rule::Verdict;

/// What happened since the start. Replacing the policy does not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Flows allowed.
    pub allowed: u64,
    /// Flows redirected.
    pub redirected: u64,
    /// Flows denied when they were opened; the next three are part of it.
    pub denied: u64,
    /// Denied by the floor.
    pub denied_by_floor: u64,
    /// Denied because no rule matched.
    pub denied_by_default: u64,
    /// Denied by the limit on connections.
    pub denied_by_rate: u64,
    /// Name checks passed.
    pub names_passed: u64,
    /// Name checks failed, each of which denied a flow that had been allowed.
    pub names_failed: u64,
    /// Open flows that a new policy closed.
    pub closed_by_replacement: u64,
    /// Bytes that [`take_bytes`](crate::Egress::take_bytes) granted.
    pub bytes_granted: u64,
    /// DNS answers that were read.
    pub dns_read: u64,
    /// DNS messages from resolvers that are not trusted.
    pub dns_untrusted: u64,
    /// DNS messages from trusted resolvers that are no successful, well-formed answers.
    pub dns_refused: u64,
    /// Addresses not pinned because they are local.
    pub pins_refused: u64,
    /// Addresses that lost their pins early, to make room.
    pub pins_evicted: u64,
}

impl Counters {
    pub(crate) fn decided(&mut self, decision: &Decision) {
        bump(match decision.verdict {
            Verdict::Allow => &mut self.allowed,
            Verdict::Redirect(_) => &mut self.redirected,
            Verdict::Deny => &mut self.denied,
        });
        match decision.reason {
            Reason::Floor(_) => bump(&mut self.denied_by_floor),
            Reason::NoRule => bump(&mut self.denied_by_default),
            Reason::ConnectionRate => bump(&mut self.denied_by_rate),
            _ => {}
        }
    }
}

/// Counts one.
pub(crate) fn bump(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
