//! The environment that PID 1 was started with and hands on.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

/// `NAME=VALUE` entries in order of first appearance, at most one per name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    entries: Vec<CString>,
}

impl Environment {
    /// An empty environment.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `name`, if it is set.
    pub fn get(&self, name: &str) -> Option<&CStr> {
        let entry = self.entries.iter().find(|entry| name_of(entry.as_bytes()) == Some(name.as_bytes()))?;
        let value = entry.as_bytes_with_nul().get(name.len().checked_add(1)?..)?;
        CStr::from_bytes_with_nul(value).ok()
    }

    /// Adds an entry `NAME=VALUE`, in the place of one with the same name.
    ///
    /// # Errors
    ///
    /// Gives the entry back if it has no name: no `=`, or nothing before it.
    pub fn set(&mut self, entry: CString) -> Result<(), CString> {
        let Some(name) = name_of(entry.as_bytes()) else { return Err(entry) };
        match self.entries.iter_mut().find(|old| name_of(old.as_bytes()) == Some(name)) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        Ok(())
    }

    /// Sets `name` to `value`.
    pub fn set_value(&mut self, name: &str, value: &CStr) {
        let mut entry = Vec::with_capacity(name.len() + value.count_bytes() + 2);
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'=');
        entry.extend_from_slice(value.to_bytes());
        // Neither part holds a NUL unless the caller's name does, and then there is nothing sensible to set.
        if let Ok(entry) = CString::new(entry) {
            let _ = self.set(entry);
        }
    }

    /// Removes `name` and gives its value.
    pub fn remove(&mut self, name: &str) -> Option<CString> {
        let value = CString::from(self.get(name)?);
        self.entries.retain(|entry| name_of(entry.as_bytes()) != Some(name.as_bytes()));
        Some(value)
    }

    /// Whether `name` is set.
    pub fn has(&self, name: &[u8]) -> bool {
        self.entries.iter().any(|entry| name_of(entry.as_bytes()) == Some(name))
    }

    /// All entries.
    pub fn entries(&self) -> &[CString] {
        &self.entries
    }
}

/// The name of an entry `NAME=VALUE`, if it has one.
pub fn name_of(entry: &[u8]) -> Option<&[u8]> {
    let end = entry.iter().position(|&byte| byte == b'=')?;
    entry.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[&str]) -> Environment {
        let mut env = Environment::new();
        for entry in entries {
            env.set(CString::new(*entry).unwrap()).unwrap();
        }
        env
    }

    #[test]
    fn the_last_entry_of_a_name_wins_in_the_place_of_the_first() {
        let env = environment(&["A=1", "B=2", "A=3=4"]);
        assert_eq!(env.entries(), [c"A=3=4".to_owned(), c"B=2".to_owned()]);
        assert_eq!(env.get("A"), Some(c"3=4"));
    }

    #[test]
    fn a_name_is_matched_whole() {
        let env = environment(&["PATHS=x", "PATH="]);
        assert_eq!(env.get("PATH"), Some(c""));
        assert_eq!(env.get("PAT"), None);
        assert_eq!(env.get(""), None);
    }

    #[test]
    fn entries_without_a_name_are_given_back() {
        let mut env = Environment::new();
        assert_eq!(env.set(c"word".to_owned()), Err(c"word".to_owned()));
        assert_eq!(env.set(c"=x".to_owned()), Err(c"=x".to_owned()));
        assert!(env.entries().is_empty());
    }

    #[test]
    fn removing_gives_the_value_and_leaves_the_rest() {
        let mut env = environment(&["A=1", "B=2"]);
        assert_eq!(env.remove("A"), Some(c"1".to_owned()));
        assert_eq!(env.remove("A"), None);
        env.set_value("C", c"x y");
        assert_eq!(env.entries(), [c"B=2".to_owned(), c"C=x y".to_owned()]);
    }
}
