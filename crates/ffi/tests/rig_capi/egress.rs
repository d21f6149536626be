//! Egress policies from C.

use std::io::Write;
use std::net::TcpListener;

use crate::guest::Host;

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_policy_is_read_out_and_replaced_from_another_thread() {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n").unwrap());
    let allow = r#"{"rules":[{"prefix_len":32,"base":"127.0.0.1","verdict":"allow"}]}"#;
    let script = format!("until nc 127.0.0.1 {port} </dev/null 2>/dev/null; do usleep 100000; done");
    let ended = host.run(&["-e", r#"{"rules":[]}"#, "-E", allow], &script, b"");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\n"), "{}", ended.stderr);
    let log = ended.stderr.lines().find_map(|line| line.strip_prefix("host: ")).expect("the log");
    for part in ["\"sequence\":0", "\"policy\":0", "\"verdict\":\"deny\"", "\"reason\":\"no rule\""] {
        assert!(log.contains(part), "{log}");
    }
    assert!(log.contains(&format!("\"destination\":\"127.0.0.1:{port}\"")), "{log}");
    server.join().unwrap();
}
