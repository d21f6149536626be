//! What was asked for but not understood.

use alloc::string::String;
use alloc::vec::Vec;

use crate::file_config::Problem;
use crate::json::JsonError;

/// Something that was asked for but not understood, and left out; none of it stops the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A resource limit that is not one.
    Rlimit(Vec<u8>),
    /// An environment entry without a name.
    EnvironmentEntry(Vec<u8>),
    /// A word of the environment, or one item of the list it is.
    Variable {
        /// The word's name.
        name: &'static str,
        /// What is not understood.
        item: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The configuration file is no JSON.
    ConfigFile(JsonError),
    /// A key of the configuration file.
    ConfigKey(Problem),
}

impl Warning {
    /// The warning as a line for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Rlimit(item) => say(&mut text, &["not a resource limit, skipped: "], item),
            Self::EnvironmentEntry(item) => say(&mut text, &["not an environment entry, skipped: "], item),
            Self::Variable { name, item, why } => say(&mut text, &[name, ": ", why, ", skipped: "], item),
            Self::ConfigFile(error) => {
                say(&mut text, &["the configuration file is skipped: ", error.what, " at byte "], b"");
                push_number(&mut text, error.offset);
            }
            Self::ConfigKey(problem) => {
                say(&mut text, &["the configuration file: ", &problem.key, ": ", problem.why], b"");
            }
        }
        text
    }
}

fn say(text: &mut String, words: &[&str], item: &[u8]) {
    words.iter().for_each(|word| text.push_str(word));
    text.push_str(&String::from_utf8_lossy(item));
}

/// Appends a number in decimal, without the weight of `core::fmt`.
fn push_number(text: &mut String, number: usize) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let variable =
            Warning::Variable { name: "KRUN_DHCP", item: b"ye\xff".to_vec(), why: "neither 0 nor 1" };
        let file = Warning::ConfigFile(JsonError { offset: 1205, what: "no value" });
        let key = Warning::ConfigKey(Problem { key: "process.args".into(), why: "not a list" });
        let table = [
            (Warning::Rlimit(b"x".to_vec()), "not a resource limit, skipped: x"),
            (Warning::EnvironmentEntry(b"x".to_vec()), "not an environment entry, skipped: x"),
            (variable, "KRUN_DHCP: neither 0 nor 1, skipped: ye\u{fffd}"),
            (file, "the configuration file is skipped: no value at byte 1205"),
            (key, "the configuration file: process.args: not a list"),
        ];
        for (warning, expected) in table {
            assert_eq!(warning.text(), expected);
        }
    }
}
