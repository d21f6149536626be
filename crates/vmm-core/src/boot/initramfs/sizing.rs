//! The RAM a machine needs for its initial RAM disk. Pure.
//!
//! While Linux unpacks an archive, its packed form, its unpacked form and the kernel are in RAM together. The unpacked
//! form lies in a tmpfs that may take a share of all RAM only, so RAM must be the larger by the inverse of it. One part in 64
//! goes to the kernel's records of its pages, and what runs needs some, too.
//!
//! ```
//! use purlin_vmm_core::boot::initramfs::sizing::{Footprint, RootShare};
//!
//! let mib = 1 << 20;
//! let footprint = Footprint { unpacked: 200 * mib, packed: 50 * mib, kernel: 30 * mib, share: RootShare::Half };
//! assert_eq!(footprint.required_mib(), 744);
//! assert!(footprint.check(512).is_err());
//! ```

use std::fmt;

use thiserror::Error;

/// RAM for what is neither kernel nor archive, in MiB.
pub const BASE_MIB: u64 = 256;

const MIB: u64 = 1 << 20;

/// The share of RAM that the first root file system may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RootShare {
    /// One half, the default of tmpfs.
    #[default]
    Half,
    /// Nine tenths, by [`RootShare::OPTION`] on the command line of a kernel that honours it.
    NineTenths,
}

impl RootShare {
    /// The kernel parameter for [`RootShare::NineTenths`].
    pub const OPTION: &'static str = "initramfs_options=size=90%";

    /// The largest share that a kernel of this release grants; one half if the release is not known.
    pub fn of_kernel(release: Option<Release>) -> Self {
        if release.is_some_and(Release::honours_initramfs_options) {
            RootShare::NineTenths
        } else {
            RootShare::Half
        }
    }

    fn fraction(self) -> (u64, u64) {
        match self {
            RootShare::Half => (1, 2),
            RootShare::NineTenths => (9, 10),
        }
    }
}

/// The number of a kernel release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl Release {
    /// Reads the start of a version text such as `6.12.57+deb13-cloud-amd64 (debian-kernel@…)`. A third number that
    /// is missing is 0.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text.get(..end)?.split('.');
        let mut next = || numbers.next().filter(|number| !number.is_empty());
        let major = next()?.parse().ok()?;
        let minor = next()?.parse().ok()?;
        let patch = next().map_or(Ok(0), str::parse).ok()?;
        Some(Release { major, minor, patch })
    }

    /// The release that a kernel's banner names. Debian's kernels call themselves by the first release of their line;
    /// the one they are made from comes behind `Debian`.
    pub fn of_banner(banner: &str) -> Option<Self> {
        let debian = banner.split_once(" Debian ").and_then(|(_, release)| Self::parse(release));
        debian.or_else(|| Self::parse(banner))
    }

    /// True if this release reads `initramfs_options=`: it came with 6.18 and went back to the stable lines then
    /// maintained.
    pub fn honours_initramfs_options(self) -> bool {
        let since = match (self.major, self.minor) {
            (5, 4) => 301,
            (5, 10) => 246,
            (5, 15) => 195,
            (6, 1) => 157,
            (6, 6) => 113,
            (6, 12) => 54,
            (6, 17) => 4,
            line => return line >= (6, 18),
        };
        self.patch >= since
    }
}

/// What takes RAM, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// The archive, unpacked.
    pub unpacked: u64,
    /// The archive as it is in RAM when the kernel starts.
    pub packed: u64,
    /// The kernel's memory while it starts (`init_size` of its setup header), or 0 if that is not known.
    pub kernel: u64,
    /// The share of RAM for the unpacked archive.
    pub share: RootShare,
}

impl Footprint {
    /// RAM for this, in MiB. Every term is rounded up to MiB.
    pub fn required_mib(&self) -> u64 {
        let mib = |bytes: u64| bytes.div_ceil(MIB);
        let (n, d) = self.share.fraction();
        let unpacked = mib(self.unpacked).saturating_mul(d).div_ceil(n);
        let sum = unpacked.saturating_add(mib(self.packed)).saturating_add(mib(self.kernel));
        sum.saturating_mul(64).div_ceil(63).saturating_add(BASE_MIB)
    }

    /// The size of a machine that asks for `minimum_mib` or more.
    pub fn deferred_mib(&self, minimum_mib: u64) -> u64 {
        self.required_mib().max(minimum_mib)
    }

    /// Checks a size that was asked for.
    ///
    /// # Errors
    ///
    /// [`MemoryTooSmall`].
    pub fn check(&self, memory_mib: u64) -> Result<(), MemoryTooSmall> {
        let required_mib = self.required_mib();
        if memory_mib >= required_mib {
            return Ok(());
        }
        Err(MemoryTooSmall { memory_mib, required_mib, footprint: *self })
    }
}

/// A machine is too small for its archive: Linux would not unpack all of it, and not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{memory_mib} MiB are too little for this initramfs: {footprint} need {required_mib} MiB; ask for that much, or let \
     the size follow from the archive"
)]
#[non_exhaustive]
pub struct MemoryTooSmall {
    /// RAM asked for, in MiB.
    pub memory_mib: u64,
    /// RAM needed, in MiB.
    pub required_mib: u64,
    /// What needs it.
    pub footprint: Footprint,
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, d) = self.share.fraction();
        write!(
            f,
            "{} bytes unpacked (which may take {n}/{d} of RAM), {} bytes packed, {} bytes of kernel and {BASE_MIB} MiB \
             to run",
            self.unpacked, self.packed, self.kernel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(unpacked: u64, packed: u64, kernel: u64, share: RootShare) -> Footprint {
        Footprint { unpacked: unpacked * MIB, packed: packed * MIB, kernel: kernel * MIB, share }
    }

    #[test]
    fn check_values() {
        let half = |u, c, k| footprint(u, c, k, RootShare::Half).required_mib();
        assert_eq!(half(10, 2, 5), 284);
        assert_eq!(half(200, 50, 30), 744);
        assert_eq!(half(0, 0, 0), 256);
        // 200 · 10/9 = 222.2 → 223, + 80 = 303, · 64/63 = 307.8 → 308
        assert_eq!(footprint(200, 50, 30, RootShare::NineTenths).required_mib(), 564);
    }

    #[test]
    fn every_term_is_rounded_up() {
        let one = Footprint { unpacked: 1, packed: 1, kernel: 1, share: RootShare::Half };
        assert_eq!(one.required_mib(), footprint(1, 1, 1, RootShare::Half).required_mib());
        let most =
            Footprint { unpacked: u64::MAX, packed: u64::MAX, kernel: u64::MAX, share: RootShare::Half };
        assert!(most.required_mib() > 1 << 44);
    }

    #[test]
    fn deferred_is_at_least_the_minimum() {
        let small = footprint(10, 2, 5, RootShare::Half);
        assert_eq!(
            (small.deferred_mib(0), small.deferred_mib(284), small.deferred_mib(1024)),
            (284, 284, 1024)
        );
    }

    #[test]
    fn the_threshold_names_all_sizes() {
        let big = footprint(200, 50, 30, RootShare::Half);
        assert_eq!(big.check(744), Ok(()));
        let text = big.check(743).unwrap_err().to_string();
        for number in ["743 MiB", "744 MiB", "209715200", "52428800", "31457280", "256 MiB", "1/2"] {
            assert!(text.contains(number), "{text:?} does not name {number}");
        }
    }

    #[test]
    fn releases() {
        let honours = |text: &str| Release::parse(text).unwrap().honours_initramfs_options();
        for text in [
            "5.4.301",
            "5.10.246-x",
            "5.15.195",
            "6.1.157",
            "6.6.113",
            "6.12.54",
            "6.12.113",
            "6.17.4",
            "6.18",
            "6.18.0-rc1",
            "6.19.1",
            "7.0",
        ] {
            assert!(honours(text), "{text}");
        }
        for text in [
            "5.4.300", "5.9.300", "5.10.245", "5.15.194", "6.1.156", "6.2.999", "6.6.112", "6.12.53",
            "6.17.3", "6.17", "4.19.400",
        ] {
            assert!(!honours(text), "{text}");
        }
        let debian = Release::parse("6.12.57+deb13-cloud-amd64 (debian-kernel@lists.debian.org)").unwrap();
        assert_eq!(debian, Release { major: 6, minor: 12, patch: 57 });
        for text in ["", "x", "6", "6.", ".6.1", "6.x", "99999999999.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
        let banner =
            "6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 6.1.192-2 (2026-11-16)";
        assert_eq!(Release::of_banner(banner), Some(Release { major: 6, minor: 1, patch: 192 }));
        assert_eq!(
            Release::of_banner("6.8.0-31-generic (b@d) #31"),
            Some(Release { major: 6, minor: 8, patch: 0 })
        );
        assert_eq!(RootShare::of_kernel(None), RootShare::Half);
        assert_eq!(RootShare::of_kernel(Some(debian)), RootShare::NineTenths);
    }
}
