//! What a bench's script reports: lines `sample CASE LIBRARY NUMBER UNIT`.

use anyhow::{Context, Result};

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What was measured.
    pub case: String,
    /// With which library; [`FLOOR`] without a VM.
    pub library: String,
    /// In units of `unit`.
    pub value: f64,
    /// As it is shown.
    pub unit: &'static str,
}

/// The library's name when the same work was done on the rig's bare machine.
pub const FLOOR: &str = "floor";

/// A script's units (integers, as a shell has them) and how they are shown.
const UNITS: [(&str, f64, &str); 2] = [("us", 1e-6, "s"), ("KiB", 1.0 / 1024.0, "MiB")];

impl Sample {
    /// A sample in one of the units of scripts: `us`, `KiB`.
    pub fn new(case: &str, library: &str, number: u64, unit: &str) -> Result<Self> {
        let (_, factor, shown) = UNITS.iter().find(|known| known.0 == unit).context("unknown unit")?;
        let value = number as f64 * factor;
        Ok(Self { case: case.into(), library: library.into(), value, unit: shown })
    }
}

/// All samples in what a script printed. Other lines are nobody's business; a sample that cannot be read is an error.
pub fn parse(report: &str) -> Result<Vec<Sample>> {
    let lines = report.lines().map(str::trim_end).filter(|line| line.starts_with("sample "));
    lines.map(|line| one(line).with_context(|| format!("not a sample: {line}"))).collect()
}

fn one(line: &str) -> Result<Sample> {
    let words: Vec<_> = line.split(' ').collect();
    let [_, case, library, number, unit] = words[..] else { anyhow::bail!("five words are expected") };
    Sample::new(case, library, number.parse()?, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_among_other_lines() {
        let samples = parse("sample boot ours 250000 us\nnoise\nsample memory ours 512 KiB\r\n").unwrap();
        assert_eq!(
            samples,
            [
                Sample { case: "boot".into(), library: "ours".into(), value: 0.25, unit: "s" },
                Sample { case: "memory".into(), library: "ours".into(), value: 0.5, unit: "MiB" }
            ]
        );
    }

    #[test]
    fn a_broken_sample_is_not_passed_over() {
        for wrong in
            ["sample boot ours us", "sample boot ours x us", "sample boot ours 1 mile", "sample b o u r s us"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
