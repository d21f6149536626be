//! The table of a bench: medians and their ratios.

use anyhow::{Context, Result};

use super::sample::{FLOOR, Sample};
use super::stats;

/// Rows for every case, in the order of the first samples, and every library that has samples of it.
pub fn text(names: &[String], samples: &[Sample], targets: &[(&str, f64)]) -> Result<String> {
    let base_name = names.iter().find(|name| *name == "libkrun").or(names.last()).context("no library")?;
    let mut text = format!(
        "{:18} {:12} {:>9} {:3} {:>7} {:>19} {:>7}\n",
        "case", "library", "median", "", "ratio", "range", "target"
    );
    for case in cases(samples) {
        let values = |library: &str| -> Vec<f64> {
            let own = samples.iter().filter(|sample| sample.case == case && sample.library == library);
            own.map(|sample| sample.value).collect()
        };
        let base = stats::median(&values(base_name)).with_context(|| format!("no {case} of {base_name}"))?;
        let target = targets.iter().find(|target| target.0 == case).map(|target| target.1);
        for name in std::iter::once(FLOOR).chain(names.iter().map(String::as_str)) {
            let values = values(name);
            let Some(median) = stats::median(&values) else { continue };
            let (low, high) = stats::range(&values);
            let target = target.filter(|_| name == "ours").map(|target| format!("{target:.2}"));
            text += &format!(
                "{case:18} {name:12} {median:>9.4} {:3} {:>7.3} {:>19} {:>7}\n",
                unit(samples, case),
                median / base,
                format!("{low:.4}..{high:.4}"),
                target.unwrap_or_default(),
            );
        }
    }
    Ok(text)
}

fn cases(samples: &[Sample]) -> Vec<&str> {
    let mut cases = Vec::new();
    for sample in samples {
        if !cases.contains(&sample.case.as_str()) {
            cases.push(sample.case.as_str());
        }
    }
    cases
}

fn unit(samples: &[Sample], case: &str) -> &'static str {
    samples.iter().find(|sample| sample.case == case).map_or("", |sample| sample.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(list: &[(&str, &str, u64)]) -> Vec<Sample> {
        list.iter()
            .map(|(case, library, number)| Sample::new(case, library, *number, "us").unwrap())
            .collect()
    }

    #[test]
    fn ratios_are_to_libkrun_and_within_a_case() {
        let samples = samples(&[
            ("read", "libkrun", 400_000),
            ("read", "ours", 100_000),
            ("read", "ours", 300_000),
            ("read", "floor", 40_000),
            ("write", "libkrun", 10_000),
            ("write", "ours", 10_000),
        ]);
        let names = ["ours", "libkrun"].map(str::to_owned);
        let text = text(&names, &samples, &[("read", 0.7)]).unwrap();
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
        assert_eq!(rows[1][..5], ["read", "floor", "0.0400", "s", "0.100"]);
        assert_eq!(rows[2], ["read", "ours", "0.2000", "s", "0.500", "0.1000..0.3000", "0.70"]);
        assert_eq!(rows[3][..5], ["read", "libkrun", "0.4000", "s", "1.000"]);
        assert_eq!(rows[4][..5], ["write", "ours", "0.0100", "s", "1.000"]);
        assert_eq!(rows.len(), 6);
    }

    #[test]
    fn a_case_without_a_base_is_an_error() {
        let samples = samples(&[("read", "ours", 1)]);
        assert!(text(&["ours".to_owned(), "libkrun".to_owned()], &samples, &[]).is_err());
        assert!(text(&[], &samples, &[]).is_err());
    }
}
