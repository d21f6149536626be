//! JSON as a tree that keeps what the policy's errors need: duplicate fields, and numbers as written.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::config::MAX_JSON_DEPTH;
use crate::error::Problem;

/// A JSON value.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(u64),
    /// Negative, with a fraction, or with an exponent: no field takes one.
    OtherNumber,
    Text(String),
    Array(Vec<Value>),
    /// In the order of the text, duplicates included.
    Object(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn boolean(self) -> Result<bool, Problem> {
        match self {
            Self::Bool(b) => Ok(b),
            _ => Err(Problem::Expected { expected: "true or false" }),
        }
    }

    pub(super) fn integer(self, min: u64, max: u64) -> Result<u64, Problem> {
        match self {
            Self::Integer(n) if (min..=max).contains(&n) => Ok(n),
            Self::Integer(_) => Err(Problem::Range { min, max }),
            _ => Err(Problem::Expected { expected: "a non-negative integer" }),
        }
    }

    pub(super) fn text(self) -> Result<String, Problem> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Problem::Expected { expected: "a string" }),
        }
    }

    pub(super) fn array(self) -> Result<Vec<Self>, Problem> {
        match self {
            Self::Array(values) => Ok(values),
            _ => Err(Problem::Expected { expected: "an array" }),
        }
    }

    pub(super) fn object(self) -> Result<Vec<(String, Self)>, Problem> {
        match self {
            Self::Object(fields) => Ok(fields),
            _ => Err(Problem::Expected { expected: "an object" }),
        }
    }
}

/// A whole text.
pub(super) struct Document(pub(super) Value);

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Depth(0).deserialize(deserializer).map(Self)
    }
}

/// Reads a value inside that many arrays and objects.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn enter<E: Error>(self) -> Result<Self, E> {
        if self.0 >= MAX_JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_JSON_DEPTH}")));
        }
        Ok(Self(self.0.saturating_add(1)))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inside = self.enter()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inside = self.enter()?;
        let mut fields = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            fields.push((name, access.next_value_seed(inside)?));
        }
        Ok(Value::Object(fields))
    }
}
