use alloc::string::{String, ToString};

use proptest::prelude::*;

use super::*;

fn ok(text: &str) -> Value {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn values() {
    let text = |text: &str| Value::String(text.as_bytes().to_vec());
    let table = [
        ("null", Value::Null),
        (" true ", Value::Bool(true)),
        ("\tfalse\r\n", Value::Bool(false)),
        ("0", Value::Number(Some(0))),
        ("18446744073709551615", Value::Number(Some(u64::MAX))),
        ("18446744073709551616", Value::Number(None)),
        ("-1", Value::Number(None)),
        ("1.0", Value::Number(None)),
        ("1e2", Value::Number(None)),
        ("-0.5E-10", Value::Number(None)),
        ("\"\"", text("")),
        (r#""a\"\\\/\b\f\n\r\t\u00e9\ud83e\udd80é""#, text("a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f980}\u{e9}")),
        ("[]", Value::Array(Vec::new())),
        (
            "[1, [ ] ,null]",
            Value::Array(Vec::from([Value::Number(Some(1)), Value::Array(Vec::new()), Value::Null])),
        ),
        ("{ }", Value::Object(Vec::new())),
        (
            r#"{"a":1 , "a" : {"b":[]}}"#,
            Value::Object(Vec::from([
                (b"a".to_vec(), Value::Number(Some(1))),
                (b"a".to_vec(), Value::Object(Vec::from([(b"b".to_vec(), Value::Array(Vec::new()))]))),
            ])),
        ),
    ];
    for (text, value) in table {
        assert_eq!(ok(text), value, "{text}");
    }
}

#[test]
fn refused_texts_and_where() {
    let table = [
        ("", 0, "no value"),
        ("nul", 0, "no value"),
        ("truex", 4, "more text after the value"),
        ("1 2", 2, "more text after the value"),
        ("01", 0, "not a number"),
        ("-", 1, "not a number"),
        ("1.", 2, "no digits after the point"),
        ("1e+", 3, "no digits in the exponent"),
        ("[1", 2, "neither , nor ]"),
        ("[1,]", 3, "no value"),
        ("{\"a\":1,}", 7, "no key"),
        ("{\"a\" 1}", 5, "no : after the key"),
        ("{\"a\":1", 6, "neither , nor }"),
        ("{a:1}", 1, "no key"),
        ("\"a", 2, "a string without end"),
        ("\"a\nb\"", 2, "a control character in a string"),
        (r#""\x""#, 2, "no such escape"),
        (r#""\u12g4""#, 5, "not four hexadecimal digits"),
        (r#""\ud800""#, 7, "half of a surrogate pair"),
        (r#""\udc00""#, 7, "half of a surrogate pair"),
        (r#""\ud800\u0041""#, 13, "half of a surrogate pair"),
    ];
    for (text, offset, what) in table {
        assert_eq!(parse(text.as_bytes()), Err(JsonError { offset, what }), "{text}");
    }
    assert_eq!(parse(b"\"\xff\""), Err(JsonError { offset: 1, what: "not UTF-8" }));
}

#[test]
fn bounds() {
    let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_ok());
    assert_eq!(parse(nested(MAX_DEPTH + 2).as_bytes()).unwrap_err().what, "nested too deep");
    assert_eq!(parse("[".repeat(1 << 20).as_bytes()).unwrap_err().what, "nested too deep");
    let many = |count: usize| ["[0", &",0".repeat(count - 1), "]"].concat();
    assert!(parse(many(MAX_VALUES - 1).as_bytes()).is_ok());
    assert_eq!(parse(many(MAX_VALUES).as_bytes()).unwrap_err().what, "too many values");
}

/// What another reader makes of the same text, in our terms.
fn reference(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Number(number.as_u64()),
        serde_json::Value::String(text) => Value::String(text.clone().into_bytes()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(reference).collect()),
        serde_json::Value::Object(members) => {
            let member = |(key, value): (&String, _)| (key.clone().into_bytes(), reference(value));
            Value::Object(members.iter().map(member).collect())
        }
    }
}

/// Without repeated keys and with sorted ones, as the other reader keeps them.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut kept: Vec<(Vec<u8>, Value)> = Vec::new();
            for (key, value) in members {
                kept.retain(|(other, _)| *other != key);
                kept.push((key, sorted(value)));
            }
            kept.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(kept)
        }
        other => other,
    }
}

fn texts() -> impl Strategy<Value = String> {
    const PIECES: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\":",
        "\\",
        "\\u0041",
        "\\ud83e\\udd80",
        "0",
        "12",
        "-",
        ".5",
        "e3",
        "true",
        "null",
        " ",
        "\n",
        "\u{e9}",
        "\"\\n\"",
        "[]",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24).prop_map(|pieces| pieces.concat())
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "\\PC{0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-c\"\\\\]{0,3}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_another_writer_writes_is_read(document in documents(), pretty: bool) {
        let text = if pretty { format!("{document:#}") } else { document.to_string() };
        prop_assert_eq!(sorted(ok(&text)), sorted(reference(&document)));
    }

    /// Numbers too large for a float are an error of the other reader only.
    #[test]
    fn another_reader_takes_and_refuses_the_same(text in texts()) {
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => prop_assert_eq!(sorted(ok(&text)), sorted(reference(&value))),
            Err(_) => prop_assert!(parse(text.as_bytes()).is_err(), "{}", text),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
