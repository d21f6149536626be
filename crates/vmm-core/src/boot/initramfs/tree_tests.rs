use super::*;

fn file(bytes: &'static [u8]) -> Kind {
    Kind::File(bytes.into())
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.iter().map(|(path, _)| path).collect()
}

#[test]
fn parents_come_first_whatever_the_order() {
    let mut tree = Tree::default();
    tree.add("/usr/lib/x.so", 0o755, file(b"x")).unwrap();
    tree.add("/usr-local", 0o700, Kind::Directory).unwrap();
    tree.add("/a", 0o644, file(b"a")).unwrap();
    tree.add("/usr", 0o700, Kind::Directory).unwrap();
    tree.add("/usr/lib/y.so", 0o755, file(b"y")).unwrap();
    assert_eq!(paths(&tree), ["a", "usr", "usr-local", "usr/lib", "usr/lib/x.so", "usr/lib/y.so"]);
    assert_eq!(tree.get("/usr").unwrap().mode, 0o700, "an implied directory does not change the mode");
}

#[test]
fn impossible_paths() {
    let long = format!("/{}", "x".repeat(256));
    let deep = "/d".repeat(2048);
    for path in [
        "",
        "a",
        "/",
        "//a",
        "/a/",
        "/a//b",
        "/./a",
        "/a/..",
        "/a\0b",
        "/TRAILER!!!",
        "/TRAILER!!!/a",
        &long,
        &deep,
    ] {
        let refused = Tree::default().add(path, 0o644, file(b""));
        assert!(matches!(refused, Err(TreeError::Path { .. })), "{path:?}");
    }
    assert!(Tree::default().add(&format!("/{}", "x".repeat(255)), 0o644, file(b"")).is_ok());
    let mode = Tree::default().add("/a", 0o10000, file(b""));
    assert!(matches!(mode, Err(TreeError::Mode { mode: 0o10000, .. })));
    let link = Tree::default().add("/a", 0o777, Kind::Symlink(String::new()));
    assert!(link.is_err());
}

#[test]
fn one_place_one_thing() {
    let mut tree = Tree::default();
    tree.add("/a/b", 0o644, file(b"1")).unwrap();
    tree.add("/a/b", 0o644, file(b"1")).unwrap();
    let differs = [
        tree.add("/a/b", 0o644, file(b"2")),
        tree.add("/a/b", 0o755, file(b"1")),
        tree.add("/a/b", 0o755, Kind::Directory),
        tree.add("/a", 0o644, file(b"1")),
        tree.add("/a/b/c", 0o644, file(b"1")),
    ];
    for refused in differs {
        assert!(matches!(refused, Err(TreeError::Conflict { .. })));
    }
}

#[test]
fn a_tree_on_top_of_another_leaves_out_what_is_there() {
    let mut below = Tree::default();
    below.add("/etc/a", 0o644, file(b"a")).unwrap();
    let top = |path: &str, kind: Kind| {
        let mut top = Tree::default();
        top.add(path, 0o644, kind)?;
        top.on_top_of(&below)
    };
    assert_eq!(paths(&top("/etc/b", file(b"b")).unwrap()), ["etc/b"]);
    assert_eq!(paths(&top("/run/b", file(b"b")).unwrap()), ["run", "run/b"]);
    assert_eq!(paths(&top("/etc", Kind::Directory).unwrap()), ["etc"], "an explicit mode is kept");
    assert!(top("/etc/a", file(b"a")).is_err());
    assert!(top("/etc/a/b", file(b"a")).is_err());
}
