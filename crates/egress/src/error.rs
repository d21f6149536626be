//! Why a policy is refused.

use crate::config::MAX_JSON_LEN;
use crate::host::HostNameError;

/// Why a policy is refused. Nothing of a refused policy takes effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is too long.
    #[error("the policy is {len} bytes long, {MAX_JSON_LEN} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The text is not JSON, is nested too deep, or has something behind its end.
    #[error("not a JSON policy: {source}")]
    Json {
        /// The parser's error, with line and column.
        #[from]
        source: serde_json::Error,
    },
    /// A field of a rule is wrong.
    #[error("rule {index}: {field}: {problem}")]
    Rule {
        /// The rule's place in the list, from 0.
        index: usize,
        /// The field's name. For an unknown field, its name (the first 64 characters).
        field: String,
        /// What is wrong.
        problem: Problem,
    },
    /// Something outside the rules is wrong.
    #[error("{field}: {problem}")]
    Field {
        /// The path of the field, like `dns.resolvers[0]`.
        field: String,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is required and absent.
    #[error("missing")]
    Missing,
    /// There is no such field.
    #[error("unknown field")]
    Unknown,
    /// It is there twice.
    #[error("given twice")]
    Duplicate,
    /// It excludes another field that is there.
    #[error("not together with {with}")]
    Conflict {
        /// The other field.
        with: &'static str,
    },
    /// It has the wrong type or form.
    #[error("expected {expected}")]
    Expected {
        /// What it should have been.
        expected: &'static str,
    },
    /// A number out of range.
    #[error("out of range {min}..={max}")]
    Range {
        /// The lowest that is allowed.
        min: u64,
        /// The highest that is allowed.
        max: u64,
    },
    /// A prefix longer than the addresses of its family.
    #[error("{len} is over {width}, the width of the address")]
    PrefixOverWidth {
        /// The length given.
        len: u64,
        /// 32 or 128.
        width: u8,
    },
    /// A port range that ends before it starts.
    #[error("reversed: {first} is over {last}")]
    ReversedPorts {
        /// The first port given.
        first: u16,
        /// The last port given.
        last: u16,
    },
    /// Too many of something.
    #[error("{count} entries, {max} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Not a host name or pattern.
    #[error("not a host pattern: {0}")]
    Host(#[from] HostNameError),
    /// A rule with a host name in a policy without trusted resolvers can never match.
    #[error("needs at least one entry in dns.resolvers")]
    NoResolver,
    /// A redirect to where no rule may lead.
    #[error("the target is in the floor, which no rule can open")]
    TargetInFloor,
    /// Part of a single 6to4 site, which is judged as one IPv4 address and so cannot be told apart.
    #[error("a part of a 6to4 site is judged as IPv4 and can never match; write the IPv4 address")]
    NeverJudged,
}

impl PolicyError {
    pub(crate) fn rule(index: usize, field: impl Into<String>, problem: Problem) -> Self {
        Self::Rule { index, field: field.into(), problem }
    }

    pub(crate) fn field(field: impl Into<String>, problem: Problem) -> Self {
        Self::Field { field: field.into(), problem }
    }
}
