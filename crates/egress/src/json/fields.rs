//! The fields of an object, taken one by one.

use super::document::Value;
use crate::error::Problem;

/// Characters of an unknown field's name that an error repeats.
const NAME_IN_ERROR: usize = 64;

/// Fields that nobody has asked for yet.
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(super) fn new(fields: Vec<(String, Value)>) -> Self {
        Self(fields)
    }

    /// A field; null counts as absent.
    ///
    /// # Errors
    ///
    /// [`Problem::Duplicate`].
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<Value>, Problem> {
        let mut found = None;
        while let Some(place) = self.0.iter().position(|(n, _)| n == name) {
            let (_, value) = self.0.swap_remove(place);
            if found.replace(value).is_some() {
                return Err(Problem::Duplicate);
            }
        }
        Ok(found.filter(|value| !matches!(value, Value::Null)))
    }

    /// A field that must be there.
    ///
    /// # Errors
    ///
    /// [`Problem::Missing`], [`Problem::Duplicate`].
    pub(super) fn required(&mut self, name: &str) -> Result<Value, Problem> {
        self.optional(name)?.ok_or(Problem::Missing)
    }

    /// The name of a field that was not asked for, if there is one.
    pub(super) fn unknown(&self) -> Option<String> {
        let (name, _) = self.0.first()?;
        Some(name.chars().take(NAME_IN_ERROR).collect())
    }
}
