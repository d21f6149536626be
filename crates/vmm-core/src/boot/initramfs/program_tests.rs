use super::*;

/// A small ELF file: header, program headers, one string table, one dynamic section.
pub(crate) struct Made {
    pub interpreter: Option<&'static str>,
    pub dynamic: Vec<(i64, &'static str)>,
    pub flags_1: u64,
}

impl Made {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut strings = vec![0u8];
        let mut entries: Vec<(i64, u64)> = Vec::new();
        for (tag, text) in &self.dynamic {
            entries.push((*tag, strings.len() as u64));
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
        }
        let interp = self.interpreter.map(|path| [path.as_bytes(), b"\0"].concat());
        let count = 2 + u16::from(interp.is_some());
        let strings_at = 64 + 56 * u64::from(count);
        let interp_at = strings_at + strings.len() as u64;
        let dynamic_at = interp_at + interp.as_ref().map_or(0, |i| i.len() as u64);
        let base = 0x40_0000;
        entries.push((DT_STRTAB, base + strings_at));
        entries.push((DT_STRSZ, strings.len() as u64));
        entries.push((DT_FLAGS_1, self.flags_1));
        entries.push((0, 0));
        let dynamic: Vec<u8> = entries
            .iter()
            .flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat())
            .collect();
        let end = dynamic_at + dynamic.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([3u16, EM_X86_64].iter().flat_map(|v| v.to_le_bytes()));
        file.extend(1u32.to_le_bytes());
        file.extend([0u64, 64, 0].iter().flat_map(|v| v.to_le_bytes()));
        file.extend(0u32.to_le_bytes());
        file.extend([64u16, 56, count, 64, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
        let mut header = |kind: u32, at: u64, len: u64| {
            file.extend([kind, 4].iter().flat_map(|v| v.to_le_bytes()));
            file.extend([at, base + at, base + at, len, len, 1].iter().flat_map(|v| v.to_le_bytes()));
        };
        header(PT_LOAD, 0, end);
        header(PT_DYNAMIC, dynamic_at, dynamic.len() as u64);
        if let Some(interp) = &interp {
            header(PT_INTERP, interp_at, interp.len() as u64);
        }
        file.extend(strings);
        file.extend(interp.unwrap_or_default());
        file.extend(dynamic);
        assert_eq!(file.len() as u64, end);
        file
    }
}

fn program() -> Made {
    Made {
        interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
        dynamic: vec![
            (DT_NEEDED, "libm.so.6"),
            (DT_NEEDED, "libc.so.6"),
            (DT_RPATH, "/old"),
            (DT_RUNPATH, "$ORIGIN/../lib::/opt/lib"),
        ],
        flags_1: 0,
    }
}

#[test]
fn a_dynamic_program() {
    let needs = needs(&program().bytes()).unwrap().unwrap();
    let want = Needs {
        interpreter: Some("/lib64/ld-linux-x86-64.so.2".to_owned()),
        libraries: vec!["libm.so.6".to_owned(), "libc.so.6".to_owned()],
        search: vec!["$ORIGIN/../lib".to_owned(), "/opt/lib".to_owned()],
        search_is_inherited: false,
        no_default: false,
    };
    assert_eq!(needs, want);
}

#[test]
fn the_older_search_path_counts_alone() {
    let made = Made {
        interpreter: None,
        dynamic: vec![(DT_NEEDED, "a"), (DT_RPATH, "/old")],
        flags_1: u64::from(DF_1_NODEFLIB as u32),
    };
    let needs = needs(&made.bytes()).unwrap().unwrap();
    assert_eq!(needs.search, ["/old"]);
    assert!(needs.search_is_inherited && needs.no_default);
}

#[test]
fn what_is_no_elf_file_asks_for_nothing() {
    for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fEL"] {
        assert_eq!(needs(bytes), Ok(None));
    }
}

#[test]
fn other_machines_are_named() {
    let mut bytes = program().bytes();
    bytes[18] = 183; // AArch64
    assert_eq!(needs(&bytes), Err(ProgramError::Machine));
    bytes[4] = 1;
    assert_eq!(needs(&bytes), Err(ProgramError::Machine));
    assert_eq!(needs(b"\x7fELF"), Err(ProgramError::Machine));
}

#[test]
fn every_cut_and_every_changed_byte_is_survived() {
    let bytes = program().bytes();
    for len in 0..bytes.len() {
        let _ = needs(&bytes[..len]);
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = needs(&changed);
        }
    }
    assert!(needs(&bytes[..bytes.len() - 20]).is_err(), "the dynamic section is cut off");
}

#[test]
fn limits() {
    let many = Made { interpreter: None, dynamic: vec![(DT_NEEDED, "a"); MAX_NEEDED + 1], flags_1: 0 };
    let limit = MAX_NEEDED;
    assert_eq!(needs(&many.bytes()), Err(ProgramError::TooMany { what: "needed libraries", limit }));
    let long: &'static str = Box::leak("/x:".repeat(MAX_SEARCH + 1).into_boxed_str());
    let deep = Made { interpreter: None, dynamic: vec![(DT_RUNPATH, long)], flags_1: 0 };
    assert!(matches!(needs(&deep.bytes()), Err(ProgramError::TooMany { .. })));
}

/// Programs of this machine, one of each kind.
#[test]
fn programs_of_the_host() {
    let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let needs_of_this = needs(&this).unwrap().unwrap();
    assert!(needs_of_this.libraries.iter().any(|name| name.starts_with("libc.")), "{needs_of_this:?}");
    assert!(needs_of_this.interpreter.is_some());
}
