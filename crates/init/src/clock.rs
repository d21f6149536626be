//! Setting the guest's clock by the host's, after a time in which the guest did not run.

/// A difference that is not worth a jump of the clock, nanoseconds.
pub const TOLERANCE_NS: u64 = 100_000_000;

/// The time to set if the host's clock says `host` and the guest's says `guest` (nanoseconds since 1970): the host's,
/// unless both agree within [`TOLERANCE_NS`].
pub fn correction(guest: u64, host: u64) -> Option<u64> {
    (guest.abs_diff(host) > TOLERANCE_NS).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_off_by_more_than_100_ms_is_set() {
        let second = 1_000_000_000;
        let table = [
            (second, second, None),
            (second, second + TOLERANCE_NS, None),
            (second + TOLERANCE_NS, second, None),
            (second, second + TOLERANCE_NS + 1, Some(second + TOLERANCE_NS + 1)),
            (2 * second, second, Some(second)),
            (0, u64::MAX, Some(u64::MAX)),
        ];
        for (guest, host, expected) in table {
            assert_eq!(correction(guest, host), expected, "{guest} {host}");
        }
    }
}
