//! Processors of the host, as a set.

use std::fmt;

/// Processors that can be named (`CPU_SETSIZE` of the C library).
pub const MAX_CPU: u32 = 1023;
const WORDS: usize = 16;

/// A set of processors of the host, by number: 0 to [`MAX_CPU`].
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct CpuMask([u64; WORDS]);

impl CpuMask {
    /// The set of these processors; `None` if it is empty or one of them is above [`MAX_CPU`].
    ///
    /// ```
    /// use purlin_vmm_core::kvm::affinity::CpuMask;
    ///
    /// assert_eq!(CpuMask::new([0, 2, 3, 4]).unwrap().to_string(), "0,2-4");
    /// assert_eq!(CpuMask::new([1024]), None);
    /// ```
    pub fn new(cpus: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut mask = CpuMask::default();
        for cpu in cpus {
            *mask.0.get_mut(cpu as usize / 64)? |= 1 << (cpu % 64);
        }
        (mask != CpuMask::default()).then_some(mask)
    }

    /// The processors in it, in order.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).flat_map(|(word, bits)| {
            (0..64u32).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * 64 + bit)
        })
    }

    /// One bit per processor, as the system calls take it.
    pub(super) fn bits(&self) -> &[u64] {
        &self.0
    }
}

/// As Linux writes it: `0,2-4`.
impl fmt::Display for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.cpus() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let texts: Vec<String> = ranges
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        f.write_str(&texts.join(","))
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuMask({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_their_texts() {
        let text = |cpus: &[u32]| CpuMask::new(cpus.iter().copied()).map(|mask| mask.to_string());
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[1024]), None);
        assert_eq!(text(&[1023, 0, 0]).as_deref(), Some("0,1023"));
        assert_eq!(text(&[63, 64, 65, 7]).as_deref(), Some("7,63-65"));
        let all = CpuMask::new(0..=MAX_CPU).unwrap();
        assert_eq!((all.to_string(), all.cpus().count()), ("0-1023".to_owned(), 1024));
    }
}
