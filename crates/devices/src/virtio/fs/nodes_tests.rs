use std::collections::HashMap;
use std::ffi::CString;

use proptest::prelude::*;

use super::*;

fn identity(ino: u64) -> Identity {
    Identity { dev: 1, ino, born: 0, format: 0o040_000 }
}

fn table(limit: usize) -> NodeTable {
    NodeTable::new(identity(0), limit)
}

#[test]
fn hard_links_are_one_node_and_follow_the_last_name() {
    let mut t = table(10);
    let a = t.learn(ROOT, c"a", identity(5), &mut |_| ()).unwrap();
    let b = t.learn(ROOT, c"b", identity(5), &mut |_| ()).unwrap();
    assert_eq!(a, b);
    assert!(t.is_at(a, ROOT, c"b"));
    assert_eq!(t.get(a).unwrap().lookups, 2);
    t.forget(a, 1, &mut |_| panic!("still known"));
    let mut gone = Vec::new();
    t.forget(a, 1, &mut |id| gone.push(id));
    assert_eq!((gone, t.len()), (vec![a], 1));
}

#[test]
fn a_forgotten_directory_lives_as_long_as_its_children() {
    let mut t = table(10);
    let d = t.learn(ROOT, c"d", identity(1), &mut |_| ()).unwrap();
    let f = t.learn(d, c"f", identity(2), &mut |_| ()).unwrap();
    let mut gone = Vec::new();
    t.forget(d, 1, &mut |id| gone.push(id));
    assert!(gone.is_empty());
    t.forget(f, u64::MAX, &mut |id| gone.push(id));
    assert_eq!(gone, [f, d]);
}

#[test]
fn the_limit_holds_and_numbers_are_not_used_again() {
    let mut t = table(2);
    let a = t.learn(ROOT, c"a", identity(1), &mut |_| ()).unwrap();
    assert_eq!(t.learn(ROOT, c"b", identity(2), &mut |_| ()), Err(Full));
    t.forget(a, 1, &mut |_| ());
    let b = t.learn(ROOT, c"b", identity(2), &mut |_| ()).unwrap();
    assert!(b > a);
}

#[test]
fn numbers_end_before_those_of_others() {
    let node = |ino| Node::new(identity(ino), Place::Gone);
    for id in [0, ROOT, END, END + 1, u64::MAX] {
        assert!(!table(10).insert_saved(id, node(1)), "{id:#x}");
    }
    let mut t = table(10);
    assert!(t.insert_saved(END - 2, node(1)) && t.check(END - 1));
    assert_eq!(t.learn(ROOT, c"a", identity(2), &mut |_| ()), Ok(END - 1));
    assert_eq!(t.learn(ROOT, c"b", identity(3), &mut |_| ()), Err(Full));
    assert!(!table(10).check(END));
}

#[test]
fn directories_swapped_by_the_host_make_no_cycle() {
    let mut t = table(10);
    let a = t.learn(ROOT, c"a", identity(1), &mut |_| ()).unwrap();
    let b = t.learn(a, c"b", identity(2), &mut |_| ()).unwrap();
    // The host made it b/a; the guest, with b still cached, finds a in it.
    assert_eq!(t.learn(b, c"a", identity(1), &mut |_| ()), Ok(a));
    assert!(t.is_at(a, ROOT, c"a"), "stale until b is found at the top");
    t.learn(ROOT, c"b", identity(2), &mut |_| ()).unwrap();
    t.learn(b, c"a", identity(1), &mut |_| ()).unwrap();
    assert!(t.is_at(a, b, c"a"));
    // A directory mounted inside itself.
    t.move_to(a, a, c"x", &mut |_| ());
    assert!(t.is_at(a, b, c"a"));
}

fn depth(t: &NodeTable, id: u64) -> Option<usize> {
    let mut at = id;
    for depth in 0..=t.len() {
        match parent_of(&t.get(at)?.place) {
            Some(up) => at = up,
            None => return Some(depth),
        }
    }
    None
}

#[derive(Debug, Clone)]
enum Step {
    Learn(u64, u8, u64),
    Move(u64, u64, u8),
    Detach(u64),
    Forget(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u64..12;
    prop_oneof![
        (id.clone(), any::<u8>(), 0u64..8).prop_map(|(p, n, i)| Step::Learn(p, n, i)),
        (id.clone(), id.clone(), any::<u8>()).prop_map(|(i, p, n)| Step::Move(i, p, n)),
        id.clone().prop_map(Step::Detach),
        (id, 0u64..3).prop_map(|(i, n)| Step::Forget(i, n)),
    ]
}

proptest! {
    /// Whatever a guest and the host do: counts are right, every walk ends, nothing unused stays.
    #[test]
    fn invariants(steps in proptest::collection::vec(step(), 0..60)) {
        let mut t = table(9);
        for s in steps {
            let name = |n: u8| CString::new(vec![b'a' + n % 4]).unwrap();
            let mut ignore = |_| ();
            match s {
                Step::Learn(p, n, i) if t.get(p).is_some() => {
                    let _ = t.learn(p, &name(n), identity(i), &mut ignore);
                }
                Step::Move(i, p, n) if t.get(p).is_some() => t.move_to(i, p, &name(n), &mut ignore),
                Step::Detach(i) => t.detach(i, &mut ignore),
                Step::Forget(i, n) => t.forget(i, n, &mut ignore),
                _ => {}
            }
            let mut children: HashMap<u64, u64> = HashMap::new();
            for (id, node) in t.iter() {
                prop_assert!(depth(&t, id).is_some(), "cycle at {}", id);
                prop_assert_eq!(t.find(&node.identity), Some(id));
                if let Some(p) = parent_of(&node.place) {
                    *children.entry(p).or_default() += 1;
                }
            }
            for (id, node) in t.iter() {
                prop_assert_eq!(node.children, children.get(&id).copied().unwrap_or(0));
            }
            prop_assert!(t.len() <= 9);
            prop_assert!(t.get(ROOT).is_some());
        }
    }
}
