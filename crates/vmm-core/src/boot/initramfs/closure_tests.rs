use elf::abi::{DT_NEEDED, DT_RPATH, DT_RUNPATH};

use super::super::program::tests::Made;
use super::*;

#[derive(Default)]
struct Host {
    files: BTreeMap<&'static str, Vec<u8>>,
    links: BTreeMap<&'static str, &'static str>,
}

impl Host {
    fn new(files: &[(&'static str, Made)]) -> Self {
        let files = files.iter().map(|(path, made)| (*path, made.bytes())).collect();
        Host { files, links: BTreeMap::new() }
    }
}

impl Files for Host {
    fn read(&self, path: &str) -> io::Result<Option<Content>> {
        if path.ends_with("unreadable") {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(self.files.get(path).map(|bytes| bytes.clone().into()))
    }

    fn real_directory(&self, path: &str) -> Option<String> {
        if let Some(target) = self.links.get(path) {
            return Some((*target).to_owned());
        }
        let inside = format!("{path}/");
        self.files.keys().any(|file| file.starts_with(&inside)).then(|| path.to_owned())
    }
}

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn made(dynamic: &[(i64, &'static str)]) -> Made {
    Made { interpreter: None, dynamic: dynamic.to_vec(), flags_1: 0 }
}

fn program(dynamic: &[(i64, &'static str)]) -> Made {
    Made { interpreter: Some(LOADER), ..made(dynamic) }
}

/// Host and guest paths of what `program` at `host` needs when it is at /init.
fn found(
    host: &Host,
    more: &[&str],
    path: &str,
    program: &Made,
) -> Result<Vec<(String, String)>, ClosureError> {
    let more: Vec<String> = more.iter().map(|&dir| dir.to_owned()).collect();
    let libraries = libraries(host, &more, path, "/init", &program.bytes().into())?;
    Ok(libraries.into_iter().map(|library| (library.host, library.guest)).collect())
}

fn pairs(paths: &[(&str, &str)]) -> Vec<(String, String)> {
    paths.iter().map(|&(host, guest)| (host.to_owned(), guest.to_owned())).collect()
}

#[test]
fn the_closure_is_found_once_each_breadth_first() {
    let host = Host::new(&[
        (LOADER, made(&[])),
        ("/lib/x86_64-linux-gnu/libc.so.6", made(&[(DT_NEEDED, "ld-linux-x86-64.so.2")])),
        ("/lib/x86_64-linux-gnu/liba.so", made(&[(DT_NEEDED, "libb.so"), (DT_NEEDED, "libc.so.6")])),
        ("/usr/lib/x86_64-linux-gnu/libb.so", made(&[(DT_NEEDED, "liba.so")])),
    ]);
    let got = found(&host, &[], "/bin/p", &program(&[(DT_NEEDED, "liba.so"), (DT_NEEDED, "libc.so.6")]));
    let want = [
        (LOADER, LOADER),
        ("/lib/x86_64-linux-gnu/liba.so", "/lib/x86_64-linux-gnu/liba.so"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
        ("/usr/lib/x86_64-linux-gnu/libb.so", "/usr/lib/x86_64-linux-gnu/libb.so"),
    ];
    assert_eq!(got.unwrap(), pairs(&want));
}

#[test]
fn linked_default_directories_go_by_their_real_name() {
    let mut host = Host::new(&[(LOADER, made(&[])), ("/usr/lib/x86_64-linux-gnu/liba.so", made(&[]))]);
    host.links.insert("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu");
    let got = found(&host, &[], "/bin/p", &program(&[(DT_NEEDED, "liba.so")])).unwrap();
    let real = "/usr/lib/x86_64-linux-gnu/liba.so";
    assert_eq!(got, pairs(&[(LOADER, LOADER), (real, real)]));
}

#[test]
fn the_origin_is_where_the_file_is_on_either_side() {
    let host = Host::new(&[
        (LOADER, made(&[])),
        ("/home/me/lib/liba.so", made(&[(DT_NEEDED, "libb.so"), (DT_RUNPATH, "${ORIGIN}/deep")])),
        ("/home/me/lib/deep/libb.so", made(&[])),
    ]);
    let program = program(&[(DT_NEEDED, "liba.so"), (DT_RUNPATH, "$ORIGIN/../lib")]);
    let got = found(&host, &[], "/home/me/bin/p", &program).unwrap();
    let want = [
        (LOADER, LOADER),
        ("/home/me/lib/liba.so", "/lib/liba.so"),
        ("/home/me/lib/deep/libb.so", "/lib/deep/libb.so"),
    ];
    assert_eq!(got, pairs(&want));
}

#[test]
fn only_the_older_search_path_is_inherited() {
    let host = Host::new(&[
        (LOADER, made(&[])),
        ("/opt/liba.so", made(&[(DT_NEEDED, "libb.so")])),
        ("/opt/libb.so", made(&[])),
    ]);
    assert_eq!(
        found(&host, &[], "/p", &program(&[(DT_NEEDED, "liba.so"), (DT_RPATH, "/opt")])).unwrap().len(),
        3
    );
    let error =
        found(&host, &[], "/p", &program(&[(DT_NEEDED, "liba.so"), (DT_RUNPATH, "/opt")])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("libb.so, which /opt/liba.so needs") && text.contains("/lib64"), "{text}");
}

#[test]
fn a_library_from_the_configuration_moves_to_a_default_directory() {
    let host = Host::new(&[
        (LOADER, made(&[])),
        ("/lib/x86_64-linux-gnu/libc.so.6", made(&[])),
        ("/usr/local/lib/liba.so", made(&[])),
    ]);
    let got = found(&host, &["/usr/local/lib"], "/p", &program(&[(DT_NEEDED, "liba.so")])).unwrap();
    assert_eq!(got[1], ("/usr/local/lib/liba.so".into(), "/lib/x86_64-linux-gnu/liba.so".into()));
}

#[test]
fn what_is_no_library_for_this_machine_is_passed_over() {
    let mut host = Host::new(&[(LOADER, made(&[])), ("/usr/lib64/liba.so", made(&[]))]);
    host.files.insert("/lib64/liba.so", b"/* GNU ld script */".to_vec());
    let mut other = made(&[]).bytes();
    other[4] = 1;
    host.files.insert("/lib/x86_64-linux-gnu/liba.so", other);
    let got = found(&host, &[], "/p", &program(&[(DT_NEEDED, "liba.so")])).unwrap();
    assert_eq!(got[1].0, "/usr/lib64/liba.so");
}

#[test]
fn musl_is_its_own_loader() {
    let loader = "/lib/ld-musl-x86_64.so.1";
    let host = Host::new(&[(loader, made(&[])), ("/usr/lib/libz.so.1", made(&[(DT_NEEDED, "libc.so")]))]);
    let program =
        Made { interpreter: Some(loader), ..made(&[(DT_NEEDED, "libc.so"), (DT_NEEDED, "libz.so.1")]) };
    let got = found(&host, &[], "/p", &program).unwrap();
    assert_eq!(got, pairs(&[(loader, loader), ("/usr/lib/libz.so.1", "/usr/lib/libz.so.1")]));
}

#[test]
fn paths_instead_of_names() {
    let host = Host::new(&[(LOADER, made(&[])), ("/opt/liba.so", made(&[]))]);
    let got = found(&host, &[], "/p", &program(&[(DT_NEEDED, "/opt/../opt/liba.so")])).unwrap();
    assert_eq!(got[1].1, "/opt/liba.so");
    let relative = found(&host, &[], "/p", &program(&[(DT_NEEDED, "./liba.so")]));
    assert!(matches!(relative, Err(ClosureError::RelativePath { .. })));
    let unreadable = found(&host, &[], "/p", &program(&[(DT_NEEDED, "/unreadable")]));
    assert!(matches!(unreadable, Err(ClosureError::Read { .. })));
}

#[test]
fn static_programs_and_scripts_need_nothing() {
    let host = Host::default();
    assert!(found(&host, &[], "/p", &made(&[])).unwrap().is_empty());
    assert!(libraries(&host, &[], "/p", "/init", &(&b"#!/bin/sh"[..]).into()).unwrap().is_empty());
}

#[test]
fn a_missing_loader_is_named() {
    let text = found(&Host::default(), &[], "/bin/p", &program(&[])).unwrap_err().to_string();
    assert!(text.contains(LOADER) && text.contains("/bin/p"), "{text}");
}
