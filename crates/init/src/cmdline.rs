//! The kernel's command line, as `/proc/cmdline` shows it.

/// Whether `word` stands on the command line by itself, before the ` -- ` that starts init's own arguments. Words are
/// separated by blanks, except inside double quotes, as the kernel splits them.
pub fn has_word(cmdline: &[u8], word: &[u8]) -> bool {
    Words(cmdline).take_while(|&found| found != b"--").any(|found| found == word)
}

struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest
            .iter()
            .position(|&byte| {
                quoted ^= byte == b'"';
                !quoted && byte.is_ascii_whitespace()
            })
            .unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_of_its_own_before_the_arguments_counts() {
        let table: [(&str, bool); 9] = [
            ("quiet tsi_hijack  -- ls\n", true),
            ("tsi_hijack", true),
            ("tsi_hijack\n", true),
            ("quiet -- tsi_hijack", false),
            ("tsi_hijack_unix quiet", false),
            ("A=tsi_hijack", false),
            ("\"A=b tsi_hijack c\" quiet", false),
            ("\"A=b -- c\" tsi_hijack", true),
            ("", false),
        ];
        for (line, expected) in table {
            assert_eq!(has_word(line.as_bytes(), b"tsi_hijack"), expected, "{line}");
        }
    }
}
