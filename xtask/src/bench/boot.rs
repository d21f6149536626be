//! `bench boot`: how long a VM takes from exec to exit, and what it keeps in memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::proc::{say, shell_quote};
use crate::{rig, setup};

use super::memory::{self, Resident};
use super::{Options, staging, stats};

const SCRIPT: &str = include_str!("../../bench/boot.sh");

/// What was measured with one library.
struct Row {
    name: String,
    seconds: Vec<f64>,
    resident: Resident,
}

/// Runs the bench and prints its table.
pub fn main(options: &Options) -> Result<()> {
    let cache = Cache::open()?;
    let machine = setup::machine(&cache)?;
    let guest = setup::guest(&cache)?;
    let staging = staging::prepare(&cache, &guest, &options.libraries)?;

    let out = tempfile::tempdir()?;
    let boots = u64::from(options.rounds + 2) * staging.names.len() as u64;
    let rig_options = rig::Options {
        deterministic: true,
        limit: Duration::from_secs(120 + 60 * boots),
        out: Some(out.path().to_owned()),
        ..rig::Options::default()
    };
    say(format_args!("booting {boots} guests in the rig, each takes some seconds"));
    let mut report = Vec::new();
    let code = rig::run(&machine, &rig_options, &job(&staging, options.rounds), &mut report)?;
    if code != 0 {
        bail!("the bench ended with exit status {code}");
    }
    let report = String::from_utf8_lossy(&report);
    let rows: Vec<Row> = staging
        .names
        .iter()
        .map(|name| {
            let smaps = out.path().join(format!("{name}.smaps"));
            let smaps = fs::read_to_string(&smaps).with_context(|| format!("no memory figures of {name}"))?;
            Ok(Row {
                name: name.clone(),
                seconds: seconds(&report, name),
                resident: memory::resident(&smaps),
            })
        })
        .collect::<Result<_>>()?;
    print!("{}", table(&rows)?);
    Ok(())
}

fn job(staging: &staging::Staging, rounds: u32) -> String {
    let mut words = vec![staging.dir.to_string_lossy().into_owned(), rounds.to_string()];
    words.extend(staging.names.iter().cloned());
    let words: Vec<_> = words.iter().map(|word| shell_quote(word)).collect();
    format!("set -- {}\n{SCRIPT}", words.join(" "))
}

/// The times of `name` in the script's report, in seconds.
fn seconds(report: &str, name: &str) -> Vec<f64> {
    let microseconds = report.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["boot", of, microseconds] if of == name => microseconds.parse::<f64>().ok(),
        _ => None,
    });
    microseconds.map(|microseconds| microseconds / 1e6).collect()
}

fn table(rows: &[Row]) -> Result<String> {
    let base =
        rows.iter().find(|row| row.name == "libkrun").or(rows.last()).context("nothing was measured")?;
    let median = |row: &Row| stats::median(&row.seconds).with_context(|| format!("no times of {}", row.name));
    let base_seconds = median(base)?;
    let mut text = format!(
        "{:12} {:>9} {:>7} {:>17} {:>14} {:>7} {:>14}\n",
        "library", "boot s", "ratio", "range s", "outside MiB", "ratio", "RAM rss/mapped"
    );
    for row in rows {
        let seconds = median(row)?;
        let (low, high) = stats::range(&row.seconds);
        let resident = &row.resident;
        text += &format!(
            "{:12} {seconds:>9.4} {:>7.3} {:>17} {:>14.2} {:>7.3} {:>14}\n",
            row.name,
            seconds / base_seconds,
            format!("{low:.4}..{high:.4}"),
            mib(resident.outside),
            mib(resident.outside) / mib(base.resident.outside),
            format!("{:.0}/{:.0}", mib(resident.ram), mib(resident.ram_size)),
        );
    }
    Ok(text)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_library() {
        let report = "boot ours 250000\nboot libkrun 400000\nnoise\nboot ours 200000\nboot ours x\n";
        assert_eq!(seconds(report, "ours"), [0.25, 0.2]);
        assert_eq!(seconds(report, "our"), Vec::<f64>::new());
    }

    #[test]
    fn the_table_compares_with_libkrun() {
        let row = |name: &str, seconds: f64, outside| Row {
            name: name.into(),
            seconds: vec![seconds],
            resident: Resident { outside, ram: 1024, ram_size: 262_144 },
        };
        let text = table(&[row("ours", 0.2, 2048), row("libkrun", 0.4, 20_480)]).unwrap();
        let ours: Vec<_> = text.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        assert_eq!(ours, ["ours", "0.2000", "0.500", "0.2000..0.2000", "2.00", "0.100", "1/256"]);
        assert!(table(&[]).is_err());
    }
}
