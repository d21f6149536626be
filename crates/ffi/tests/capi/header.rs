//! The headers: clean, and the same as the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::c::{Bench, compiler, succeeds};
use crate::symbols::exported;

const HEADERS: [&str; 3] = ["libkrun.h", "libkrun_display.h", "libkrun_input.h"];
const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn clean_as_c_and_as_cpp() {
    for header in HEADERS {
        let path = format!("{MANIFEST}/include/{header}");
        for (name, language, standard) in [("cc", "c", "c99"), ("cc", "c", "gnu17"), ("c++", "c++", "c++11")]
        {
            let mut check = compiler(name, standard, "-fsyntax-only");
            succeeds(check.args(["-x", language]).arg(&path));
        }
    }
}

#[test]
fn constants_and_sizes() {
    Bench::new().program("constants");
}

/// Name to result and argument types, in C's words.
type Prototypes = BTreeMap<String, Vec<String>>;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn in_header() -> Prototypes {
    let text = std::fs::read_to_string(format!("{MANIFEST}/include/libkrun.h")).unwrap();
    let no_comments: String =
        text.split("/*").map(|part| part.split_once("*/").map_or(part, |p| p.1)).collect();
    let no_comments = no_comments.replace("\\\n", "");
    let code: Vec<&str> = no_comments.lines().filter(|line| !line.starts_with('#')).collect();
    let code = code.join(" ");
    code.split(';').filter_map(prototype).collect()
}

fn prototype(text: &str) -> Option<(String, Vec<String>)> {
    let (head, arguments) = text.strip_suffix(')').unwrap_or(text).split_once('(')?;
    let start = head.find("krun_")?;
    let result = head.get(..start)?.trim().trim_start_matches("extern \"C\" {").trim();
    let types = arguments.split(',').filter(|a| a.trim() != "void").map(|argument| {
        let array = argument.trim().ends_with("[]");
        let argument = argument.replace("[]", "");
        let end = argument.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let plain = words(argument.get(..end).unwrap_or_default());
        if array { format!("{plain}[]") } else { plain }
    });
    let all = std::iter::once(words(result)).chain(types).collect();
    Some((head.get(start..)?.trim().to_owned(), all))
}

fn in_code() -> Prototypes {
    let mut found = Prototypes::new();
    for entry in std::fs::read_dir(format!("{MANIFEST}/src/capi")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split("pub extern \"C\" fn ").skip(1) {
            let (name, rest) = part.split_once('(').unwrap();
            let (arguments, rest) = rest.split_once(')').unwrap();
            let result = rest.split('{').next().unwrap().trim().trim_start_matches("-> ");
            let types = arguments.split(',').filter_map(|argument| argument.split_once(": "));
            let all = std::iter::once(result).chain(types.map(|(_, kind)| kind.trim())).map(words);
            found.insert(name.to_owned(), all.collect());
        }
    }
    found
}

/// The types of C that a type of the code stands for.
fn in_c(kind: &str) -> &'static [&'static str] {
    match kind {
        "i32" => &["int32_t", "int"],
        "u8" => &["uint8_t"],
        "u16" => &["uint16_t"],
        "u32" => &["uint32_t"],
        "u64" => &["uint64_t"],
        "usize" => &["size_t"],
        "libc::uid_t" => &["uid_t"],
        "libc::gid_t" => &["gid_t"],
        "CBool" => &["bool"],
        "CText" => &["const char *", "char *"],
        "CTextList" => &["const char *const[]"],
        "CBytes" | "*const u8" => &["const uint8_t *"],
        "CMac" => &["uint8_t *const"],
        "COut<*const u8>" => &["const uint8_t **"],
        "COut<usize>" => &["size_t *"],
        "CInOut<u64>" => &["uint64_t *"],
        "CBuffer" => &["char *"],
        "*const c_void" => &["const void *"],
        "*const c_char" => &["const char *"],
        _ => &[],
    }
}

#[test]
fn prototypes_are_those_of_the_code() {
    let (header, code) = (in_header(), in_code());
    assert_eq!(header.keys().collect::<Vec<_>>(), code.keys().collect::<Vec<_>>());
    for (name, types) in &code {
        let declared = &header[name];
        assert_eq!(types.len(), declared.len(), "{name}: {types:?} and {declared:?}");
        for (kind, declared) in types.iter().zip(declared) {
            assert!(in_c(kind).contains(&declared.as_str()), "{name}: {kind} is not {declared:?}");
        }
    }
}

#[test]
fn prototypes_are_those_of_the_library() {
    let declared: BTreeSet<String> = in_header().into_keys().collect();
    assert_eq!(declared, exported());
}
