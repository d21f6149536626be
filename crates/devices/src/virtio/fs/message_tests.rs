use proptest::prelude::*;

use super::*;

fn header(opcode: Opcode, len: usize) -> InHeader {
    InHeader { len: len as u32, opcode: opcode as u32, ..InHeader::default() }
}

#[test]
fn lengths_that_lie_are_refused() {
    let table = [
        (Opcode::Getattr, 56, 56, 16, Ok(16)),
        (Opcode::Getattr, 57, 56, 16, Err(Errno::INVAL)),
        (Opcode::Getattr, 40, 56, 16, Err(Errno::INVAL)),
        (Opcode::Getattr, usize::MAX, 56, 16, Err(Errno::INVAL)),
        (Opcode::Getattr, 56, 56, 15, Err(Errno::INVAL)),
        (Opcode::Getattr, 56, 56, 0, Err(Errno::INVAL)),
        (Opcode::Forget, 48, 48, 0, Ok(8)),
        (Opcode::Forget, 39, 39, 0, Err(Errno::INVAL)),
        (Opcode::Interrupt, 48, 48, 0, Ok(8)),
        (Opcode::Write, 80, 80, 16, Ok(40)),
        (Opcode::Write, 79, 79, 16, Err(Errno::INVAL)),
        (Opcode::Write, 80 + MAX_DATA, 80 + MAX_DATA, 16, Ok(40)),
        (Opcode::Write, 81 + MAX_DATA, 81 + MAX_DATA, 16, Err(Errno::INVAL)),
        (Opcode::Setxattr, 40 + MAX_BODY, 40 + MAX_BODY, 16, Ok(MAX_BODY)),
        (Opcode::Setxattr, 41 + MAX_BODY, 41 + MAX_BODY, 16, Err(Errno::TOOBIG)),
    ];
    for (opcode, len, readable, writable, want) in table {
        assert_eq!(body_len(&header(opcode, len), readable, writable), want, "{opcode:?} {len} {readable}");
    }
}

fn words(words: &[u32], tail: &[u8]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).chain(tail.iter().copied()).collect()
}

#[test]
fn malformed_bodies_are_refused() {
    let table: [(Opcode, Vec<u8>, Errno); 22] = [
        (Opcode::Lookup, vec![], Errno::INVAL),
        (Opcode::Lookup, b"name".to_vec(), Errno::INVAL),
        (Opcode::Lookup, b"name\0more".to_vec(), Errno::INVAL),
        (Opcode::Lookup, b"a/b\0".to_vec(), Errno::INVAL),
        (Opcode::Lookup, b"..\0".to_vec(), Errno::INVAL),
        (Opcode::Lookup, [&[b'x'; 256][..], b"\0"].concat(), Errno::NAMETOOLONG),
        (Opcode::Forget, vec![0; 7], Errno::INVAL),
        (Opcode::BatchForget, words(&[2, 0], &[0; 16]), Errno::INVAL),
        (Opcode::BatchForget, words(&[u32::MAX, 0], &[0; 16]), Errno::INVAL),
        (Opcode::Getattr, vec![0; 15], Errno::INVAL),
        (Opcode::Setattr, vec![0; 87], Errno::INVAL),
        (Opcode::Symlink, b"name\0".to_vec(), Errno::INVAL),
        (Opcode::Symlink, b"name\0\0".to_vec(), Errno::NOENT),
        (Opcode::Symlink, [b"n\0", &[b't'; 4096][..], b"\0"].concat(), Errno::NAMETOOLONG),
        (Opcode::Symlink, b"../n\0target\0".to_vec(), Errno::INVAL),
        (Opcode::Mkdir, words(&[0o755], b"d\0"), Errno::INVAL),
        (Opcode::Rename, words(&[1, 0], b"a\0../b\0"), Errno::INVAL),
        (Opcode::Rename2, words(&[1, 0, 0, 0], b"a\0"), Errno::INVAL),
        (Opcode::Setxattr, words(&[5, 0], b"user.a\0four"), Errno::INVAL),
        (Opcode::Setxattr, words(&[0, 0], b"\0"), Errno::INVAL),
        (Opcode::Getxattr, words(&[0, 0], &[[b'x'; 256].as_slice(), b"\0"].concat()), Errno::RANGE),
        (Opcode::Init, words(&[7, 38, 0, INIT_EXT], b""), Errno::INVAL),
    ];
    for (opcode, body, want) in table {
        let got = Request::parse(opcode as u32, &body);
        assert_eq!(got.map(|r| format!("{r:?}")), Err(want), "{opcode:?} {body:?}");
    }
}

#[test]
fn init_takes_both_flag_words() {
    let body = words(&[7, 38, 4096, INIT_EXT | 1, 0x100, 0], &[0; 40]);
    let Ok(Request::Init { flags, .. }) = Request::parse(Opcode::Init as u32, &body) else { panic!() };
    assert_eq!(flags, 1 << 40 | u64::from(INIT_EXT) | 1);
}

#[test]
fn batch_forget_gives_its_pairs() {
    let body = words(&[2, 0, 5, 0, 1, 0, 6, 0, 2, 0], &[]);
    let Ok(Request::BatchForget { items }) = Request::parse(Opcode::BatchForget as u32, &body) else {
        panic!()
    };
    assert_eq!(forget_items(items).collect::<Vec<_>>(), [(5, 1), (6, 2)]);
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(opcode in 0u32..60, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = Request::parse(opcode, &body) {
            let _ = request.reply_len();
        }
    }
}
