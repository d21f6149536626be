//! Token buckets.

use std::time::Duration;

use crate::config::Rate;

/// Parts of a token that arrive per nanosecond and unit of rate.
const SCALE: u128 = 1_000_000_000;

/// A token bucket. Starts full; time is an argument and may stand still, but what goes backwards is ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    /// Tokens times [`SCALE`].
    level: u128,
    updated: Duration,
}

impl TokenBucket {
    pub(crate) fn full(rate: Rate, now: Duration) -> Self {
        Self { rate, level: u128::from(rate.burst).saturating_mul(SCALE), updated: now }
    }

    /// The same bucket at another rate: what was used up stays used up.
    pub(crate) fn at_rate(mut self, rate: Rate, now: Duration) -> Self {
        self.refill(now);
        let full = Self::full(rate, now);
        Self { level: self.level.min(full.level), ..full }
    }

    /// Takes up to `want` tokens and gives how many.
    pub(crate) fn take(&mut self, now: Duration, want: u64) -> u64 {
        self.refill(now);
        let there = u64::try_from(self.level.checked_div(SCALE).unwrap_or(0)).unwrap_or(u64::MAX);
        let taken = want.min(there);
        self.level = self.level.saturating_sub(u128::from(taken).saturating_mul(SCALE));
        taken
    }

    /// Puts tokens back that were taken for nothing.
    pub(crate) fn give_back(&mut self, tokens: u64) {
        let full = u128::from(self.rate.burst).saturating_mul(SCALE);
        self.level = self.level.saturating_add(u128::from(tokens).saturating_mul(SCALE)).min(full);
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// When there will be `want` tokens, or a full bucket if that is less. As of the last `take`.
    pub(crate) fn when(&self, want: u64) -> Duration {
        let target = u128::from(want.min(self.rate.burst)).saturating_mul(SCALE);
        let lacking = target.saturating_sub(self.level);
        let nanos = lacking.div_ceil(u128::from(self.rate.per_second.max(1)));
        self.updated.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn refill(&mut self, now: Duration) {
        let Some(elapsed) = now.checked_sub(self.updated) else { return };
        let gained = elapsed.as_nanos().saturating_mul(self.rate.per_second.into());
        let full = u128::from(self.rate.burst).saturating_mul(SCALE);
        self.level = self.level.saturating_add(gained).min(full);
        self.updated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::full(Rate { per_second: 10, burst: 5 }, ms(0));
        assert_eq!(bucket.take(ms(0), 7), 5);
        assert_eq!(bucket.when(1), ms(100));
        assert_eq!(bucket.take(ms(99), 1), 0);
        assert_eq!(bucket.take(ms(100), 1), 1);
        assert_eq!(bucket.take(ms(50), 1), 0, "backwards");
        assert_eq!(bucket.take(ms(100_000), 100), 5, "never over the burst");
        assert_eq!(bucket.when(100), ms(100_500), "a full bucket is all there can be");
    }

    #[test]
    fn extremes() {
        let most = Rate { per_second: u64::MAX, burst: u64::MAX };
        let mut bucket = TokenBucket::full(most, Duration::ZERO);
        assert_eq!(bucket.take(Duration::MAX, u64::MAX), u64::MAX);
        assert_eq!(bucket.take(Duration::MAX, 1), 0);
        let mut slow = TokenBucket::full(Rate { per_second: 1, burst: u64::MAX }, Duration::ZERO);
        assert_eq!(slow.take(Duration::ZERO, u64::MAX), u64::MAX);
        assert_eq!(slow.when(u64::MAX), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn a_new_rate_gives_nothing_back() {
        let mut bucket = TokenBucket::full(Rate { per_second: 1, burst: 10 }, ms(0));
        bucket.take(ms(0), 10);
        let mut bucket = bucket.at_rate(Rate { per_second: 1000, burst: 1000 }, ms(0));
        assert_eq!(bucket.take(ms(0), 1), 0);
        assert_eq!(bucket.take(ms(10), 100), 10);
    }
}
