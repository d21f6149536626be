//! Counting: what test programs and nextest report, as numbers.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tests that did what they are for.
    pub passed: u64,
    /// Tests that failed, timed out or crashed.
    pub failed: u64,
    /// Tests that did not run, or said that they could not.
    pub skipped: u64,
}

impl Totals {
    /// With these as the second attempt of what failed in `first`: what passes now counts as passed.
    pub fn after(self, first: Totals) -> Totals {
        if self.failed > 0 || self.skipped > 0 || self.passed != first.failed {
            return first;
        }
        Totals { passed: first.passed + self.passed, failed: 0, ..first }
    }

    /// These, of which `late` passed at a second attempt only: those count as failed if they are more than `few`.
    pub fn judged(self, late: u64, few: u64) -> Totals {
        let bad = if late > few { late } else { 0 };
        Totals { passed: self.passed.saturating_sub(bad), failed: self.failed + bad, ..self }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Whether `line` of a test's output says that the test could not run. libtest may have put the test's name before.
pub fn says_skipped(line: &str) -> bool {
    let said = line.rsplit_once(" ... ").map_or(line, |(_, said)| said);
    said.trim_start().starts_with("skipped: ")
}

/// Reads what a Rust test program prints, line by line.
#[derive(Debug, Default)]
pub struct Libtest {
    totals: Totals,
    said_skipped: u64,
}

impl Libtest {
    /// Takes the next line. Ignored tests count as skipped.
    pub fn line(&mut self, line: &str) {
        if let Some(result) = result_line(line) {
            self.totals += result;
        } else if says_skipped(line) {
            self.said_skipped += 1;
        }
    }

    /// The sum of all results seen. A test that said it could not run passed, in libtest's view.
    pub fn totals(&self) -> Totals {
        correct(self.totals, self.said_skipped)
    }
}

fn correct(totals: Totals, said_skipped: u64) -> Totals {
    let passed = totals.passed.saturating_sub(said_skipped);
    Totals { passed, skipped: totals.skipped + (totals.passed - passed), ..totals }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn result_line(line: &str) -> Option<Totals> {
    let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// The counts in a JUnit report of nextest that holds the output of successful tests too.
pub fn junit(report: &str) -> Option<Totals> {
    let head = report.get(report.find("<testsuites")?..)?;
    let head = head.get(..head.find('>')?)?;
    let attribute = |name: &str| {
        let value = head.split_once(&format!(" {name}=\""))?.1;
        value.split('"').next()?.parse::<u64>().ok()
    };
    let failed = attribute("failures")? + attribute("errors")?;
    let run = Totals { passed: attribute("tests")?.checked_sub(failed)?, failed, skipped: 0 };
    let cases = report.split("<testcase").skip(1);
    // The text of an output element begins right after its tag.
    let said = cases.filter(|case| case.split(['\n', '>']).any(says_skipped)).count();
    Some(correct(run, said as u64))
}

/// The tests in such a report that passed after they had failed.
pub fn passed_late(report: &str) -> Vec<String> {
    // Text is escaped, so an element is one.
    let late = report.split("<testcase").skip(1).filter(|case| case.contains("<flakyFailure"));
    late.filter_map(|case| case.split_once(" name=\"")?.1.split('"').next().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(passed: u64, failed: u64, skipped: u64) -> Totals {
        Totals { passed, failed, skipped }
    }

    #[test]
    fn result_lines() {
        let table = [
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
                Some((3, 0, 1)),
            ),
            (
                "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
                Some((10, 2, 0)),
            ),
            ("test result: who knows", None),
            ("test result: ok. many passed; 0 failed; 1 ignored", None),
            ("test boot ... ok", None),
        ];
        for (line, expected) in table {
            assert_eq!(result_line(line), expected.map(|(p, f, s)| totals(p, f, s)), "{line}");
        }
    }

    #[test]
    fn lines_that_say_skipped() {
        for line in ["skipped: no KVM", "  skipped: x", "test a::b ... skipped: no KVM"] {
            assert!(says_skipped(line), "{line}");
        }
        for line in ["skipped in part: x", "3 skipped", "not skipped: x", "test skipped ... ok"] {
            assert!(!says_skipped(line), "{line}");
        }
    }

    #[test]
    fn several_programs_add_up() {
        let mut libtest = Libtest::default();
        for line in [
            "skipped: no userfaultfd",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1s",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1s",
        ] {
            libtest.line(line);
        }
        assert_eq!(libtest.totals(), totals(3, 1, 3));
    }

    #[test]
    fn a_report_of_nextest() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0" uuid="u" timestamp="t" time="0.3">
    <testsuite name="xtask" tests="4" disabled="0" errors="0" failures="1">
        <testcase name="a" classname="xtask"><system-out>
running 1 test
test a ... skipped: no KVM
ok
</system-out></testcase>
        <testcase name="b" classname="xtask"><system-err>skipped: no root
skipped: twice said</system-err></testcase>
        <testcase name="c" classname="xtask"></testcase>
    </testsuite>
</testsuites>"#;
        assert_eq!(junit(report), Some(totals(1, 1, 2)));
        assert!(passed_late(report).is_empty());
        assert_eq!(junit("<testsuites tests=\"1\">"), None);
        assert_eq!(junit("nothing"), None);
    }

    #[test]
    fn a_second_attempt_counts_if_everything_passes() {
        let first = totals(10, 2, 1);
        assert_eq!(totals(2, 0, 0).after(first), totals(12, 0, 1));
        for second in [totals(1, 1, 0), totals(1, 0, 0), totals(1, 0, 1), totals(0, 1, 0)] {
            assert_eq!(second.after(first), first);
        }
    }

    /// As nextest writes it: `a` failed twice, `b` once.
    #[test]
    fn a_report_with_second_attempts() {
        let report = r#"<testsuites name="nextest-run" tests="3" skipped="0" failures="1" errors="0" time="0.3">
        <testcase name="m::a" classname="x" time="0.01"><failure type="test failure">no</failure>
            <rerunFailure time="0.01" type="test failure"><system-out>&lt;flakyFailure</system-out></rerunFailure></testcase>
        <testcase name="m::b" classname="x" time="0.01"><flakyFailure time="0.01" type="test failure">no</flakyFailure></testcase>
        <testcase name="m::c" classname="x" time="0.01"></testcase></testsuites>"#;
        assert_eq!(junit(report), Some(totals(2, 1, 0)));
        assert_eq!(passed_late(report), ["m::b"]);
    }

    #[test]
    fn many_late_ones_are_failures() {
        assert_eq!(totals(10, 1, 2).judged(5, 5), totals(10, 1, 2));
        assert_eq!(totals(10, 1, 2).judged(6, 5), totals(4, 7, 2));
    }

    #[test]
    fn the_last_line() {
        assert_eq!(totals(1, 2, 3).to_string(), "1 passed, 2 failed, 3 skipped");
    }
}
