//! How often rules decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often each rule of one policy decided. A clone shows the same numbers, also in another thread while the
/// [`Egress`](crate::Egress) goes on: however many rules there are, nothing is copied until somebody asks.
#[derive(Clone, Debug, Default)]
pub struct RuleHits(Arc<[AtomicU64]>);

impl RuleHits {
    pub(crate) fn new(rules: usize) -> Self {
        RuleHits((0..rules).map(|_| AtomicU64::new(0)).collect())
    }

    /// The numbers, by the rules' index. Each is right by itself; they are not of one moment.
    pub fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|hits| hits.load(Ordering::Relaxed)).collect()
    }

    /// True for a clone.
    pub fn is_same(&self, other: &RuleHits) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts one. Only the egress does, of which there is one.
    pub(crate) fn bump(&self, rule: usize) {
        if let Some(hits) = self.0.get(rule) {
            hits.store(hits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }
}
