//! Command lines: what every command does the same way.

use std::ffi::{OsStr, OsString};

use anyhow::{Context, Result, bail};

/// The arguments of one command, without the command's name.
pub struct Args {
    parser: lexopt::Parser,
}

/// An option or a positional argument.
#[derive(Debug, PartialEq, Eq)]
pub enum Arg {
    /// `-c` or `--name`, with its dashes.
    Option(String),
    /// Anything else, also what follows `--`.
    Positional(OsString),
}

impl Args {
    /// Parses `words`.
    pub fn new(words: impl IntoIterator<Item = OsString>) -> Self {
        Self { parser: lexopt::Parser::from_args(words.into_iter().collect::<Vec<_>>()) }
    }

    /// The next option or positional argument.
    pub fn next(&mut self) -> Result<Option<Arg>> {
        Ok(self.parser.next()?.map(|arg| match arg {
            lexopt::Arg::Short(letter) => Arg::Option(format!("-{letter}")),
            lexopt::Arg::Long(name) => Arg::Option(format!("--{name}")),
            lexopt::Arg::Value(value) => Arg::Positional(value),
        }))
    }

    /// As [`Args::next`], but ends at `--`; then [`Args::rest`] has what follows.
    pub fn next_before_dashes(&mut self) -> Result<Option<Arg>> {
        let at_dashes =
            self.parser.try_raw_args().is_some_and(|raw| raw.peek().is_some_and(|word| word == "--"));
        if at_dashes { Ok(None) } else { self.next() }
    }

    /// Everything that is left, unparsed, without a leading `--`.
    pub fn rest(mut self) -> Result<Vec<String>> {
        let raw = self.parser.raw_args()?;
        raw.enumerate().filter(|(at, word)| *at > 0 || word != "--").map(|(_, word)| utf8(&word)).collect()
    }

    /// The value of the option just returned.
    pub fn value(&mut self) -> Result<OsString> {
        Ok(self.parser.value()?)
    }

    /// The value of the option just returned, as a positive number.
    pub fn number(&mut self) -> Result<u32> {
        let value = self.value()?;
        let number = value.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        number.with_context(|| format!("{} is not a positive number", value.display()))
    }

    /// `first` and everything that follows, unparsed: a command to run.
    pub fn command(mut self, first: OsString) -> Result<Vec<String>> {
        let mut words = vec![utf8(&first)?];
        for word in self.parser.raw_args()? {
            words.push(utf8(&word)?);
        }
        Ok(words)
    }

    /// Nothing may be left.
    pub fn finish(mut self) -> Result<()> {
        self.next()?.map_or(Ok(()), |arg| Err(unexpected(&arg)))
    }
}

/// The error for an argument that a command does not know.
pub fn unexpected(arg: &Arg) -> anyhow::Error {
    match arg {
        Arg::Option(name) => anyhow::anyhow!("unknown option {name}; --help lists them"),
        Arg::Positional(word) => anyhow::anyhow!("unexpected {}; --help says what is", word.display()),
    }
}

fn utf8(word: &OsStr) -> Result<String> {
    match word.to_str() {
        Some(word) => Ok(word.to_owned()),
        None => bail!("{} is not UTF-8", word.display()),
    }
}

/// Whether `words` ask for help; what follows `--` belongs to another program.
pub fn asks_for_help(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Args {
        Args::new(words.iter().map(OsString::from))
    }

    #[test]
    fn options_values_and_a_command() {
        let mut args = args(&["-t", "5", "--deep", "--", "echo", "-n", "--help"]);
        assert_eq!(args.next().unwrap(), Some(Arg::Option("-t".into())));
        assert_eq!(args.number().unwrap(), 5);
        assert_eq!(args.next().unwrap(), Some(Arg::Option("--deep".into())));
        let Some(Arg::Positional(first)) = args.next().unwrap() else { panic!("no command") };
        assert_eq!(args.command(first).unwrap(), ["echo", "-n", "--help"]);
    }

    #[test]
    fn numbers_are_positive_and_named_when_wrong() {
        for wrong in ["0", "-1", "x", "99999999999"] {
            let mut args = args(&["-t", wrong]);
            args.next().unwrap();
            let text = args.number().unwrap_err().to_string();
            assert!(text.contains(wrong), "{text}");
        }
    }

    #[test]
    fn leftovers_are_errors() {
        assert!(args(&[]).finish().is_ok());
        assert!(args(&["--what"]).finish().unwrap_err().to_string().contains("--what"));
        assert!(args(&["word"]).finish().unwrap_err().to_string().contains("word"));
    }

    #[test]
    fn help_is_for_us_only_before_the_dashes() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(asks_for_help(&words(&["-t", "5", "--help"])));
        assert!(!asks_for_help(&words(&["--", "ls", "--help"])));
    }
}
