use alloc::borrow::ToOwned;
use alloc::ffi::CString;

use super::*;
use crate::config::{Config, Order};
use crate::env::Environment;
use crate::file_config;
use crate::net::Settings;
use crate::options::Options;

fn options(entries: &[&str]) -> Options {
    let mut env = Environment::new();
    for entry in entries {
        env.set(CString::new(*entry).unwrap()).unwrap();
    }
    let (options, warnings) = Options::take(&mut env);
    assert_eq!(warnings, []);
    options
}

fn config(env: &[&str], file: &str) -> Config {
    let mut environment = Environment::new();
    for entry in env {
        environment.set(CString::new(*entry).unwrap()).unwrap();
    }
    let (order, _) = Order::new(Vec::new(), environment, None);
    Config::new(order, file_config::read(file.as_bytes()).unwrap().0).0
}

fn mounts(steps: &[Step]) -> Vec<Mount> {
    let mount = |step: &Step| match step.action {
        Action::Mount(mount) => Some(mount),
        _ => None,
    };
    steps.iter().filter_map(mount).collect()
}

fn actions(steps: Vec<Step>) -> Vec<Action> {
    steps.into_iter().map(|step| step.action).collect()
}

#[test]
fn mounts_have_the_flags_of_the_contract() {
    let mounts = mounts(&base(&options(&[])));
    let found: Vec<_> = mounts.iter().map(|mount| (mount.kind, mount.target, mount.flags)).collect();
    let expected = [
        (c"devtmpfs", c"/dev", 0x20_0000),
        (c"proc", c"/proc", 0x20_000e),
        (c"sysfs", c"/sys", 0x20_000e),
        (c"cgroup2", c"/sys/fs/cgroup", 0x20_000e),
        (c"devpts", c"/dev/pts", 0x20_000a),
        (c"tmpfs", c"/dev/shm", 0x20_000a),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_mount_comes_after_the_one_it_lies_in() {
    let mounts = mounts(&base(&options(&[])));
    for (index, inner) in mounts.iter().enumerate() {
        for outer in &mounts[index + 1..] {
            let hides = inner.target.to_bytes().starts_with(outer.target.to_bytes());
            assert!(!hides, "{outer:?} hides {inner:?}");
        }
    }
}

#[test]
fn only_what_the_workload_needs_is_fatal() {
    for step in base(&options(&["KRUN_BLOCK_ROOT_DEVICE=/dev/vda", "PURLIN_STATIC_IP=1.2.3.4/24:1.2.3.1"])) {
        let fatal = matches!(
            step.action,
            Action::Mount(_) | Action::ShareMounts | Action::MountRequest(_) | Action::SwitchRoot(_)
        );
        assert_eq!(step.on_error == OnError::Fatal, fatal, "{step:?}");
    }
}

#[test]
fn a_block_root_is_mounted_on_what_is_there_and_gets_everything_again() {
    let plain = base(&options(&[]));
    let with = base(&options(&["KRUN_BLOCK_ROOT_DEVICE=/dev/vda", "KRUN_BLOCK_ROOT_FSTYPE=ext4"]));
    let first = plain.iter().position(|step| step.action == Action::ShareMounts).unwrap();
    assert_eq!(with[..first], plain[..first]);
    let Action::MountRequest(root) = &with[first].action else { panic!("{with:?}") };
    assert_eq!((root.source.as_c_str(), root.target.as_c_str()), (c"/dev/vda", c"/newroot"));
    assert_eq!(with[first + 1].action, Action::SwitchRoot(c"/newroot"));
    assert_eq!(with[first + 2..], plain, "mounts, and only then are they shared");
}

#[test]
fn static_settings_and_those_of_a_server() {
    let tail = |entries: &[&str]| actions(base(&options(entries))).split_off(base(&options(&[])).len());
    assert_eq!(tail(&["KRUN_DHCP=1"]), [Action::LinkUp("eth0")]);
    let expected = [
        Action::LinkUp("eth0"),
        Action::AddAddress { interface: "eth0", address: [10, 0, 2, 15], prefix: 24 },
        Action::AddRouter { interface: "eth0", router: [10, 0, 2, 2], onlink: false },
        Action::WriteResolver(b"nameserver 10.0.2.3\n".to_vec()),
    ];
    assert_eq!(tail(&["PURLIN_STATIC_IP=10.0.2.15/24:10.0.2.2:10.0.2.3", "KRUN_DHCP=1"]), expected);

    let lease = Settings {
        address: [1, 2, 3, 4],
        prefix: 32,
        router: Some([9; 4]),
        mtu: Some(1500),
        dns: Vec::new(),
    };
    let expected = [
        Action::SetMtu("eth0", 1500),
        Action::AddAddress { interface: "eth0", address: [1, 2, 3, 4], prefix: 32 },
        Action::AddRouter { interface: "eth0", router: [9; 4], onlink: true },
    ];
    assert_eq!(actions(network(&lease)), expected);
    let least = Settings { router: None, mtu: None, ..lease };
    assert_eq!(actions(network(&least)).len(), 1);
}

#[test]
fn workload_steps() {
    let options = options(&["PURLIN_DISK_MOUNTS=/dev/vdb:ext4:/d", "AGX_VIRTIOFS_MOUNTS=t:/t"]);
    let tmpfs = r#"{"mounts":[{"type":"tmpfs","source":"tmpfs","destination":"/tmp"}]}"#;
    let steps = workload(&config(&["HOSTNAME=vm", "KRUN_WORKDIR=/w"], tmpfs), &options);
    let [share, disk] = &options.mounts[..] else { panic!("{options:?}") };
    let (fatal, warn) = (OnError::Fatal, OnError::Warn);
    let expected = [
        (Stage::Mount, fatal, Action::MountTmpfs(Vec::from([c"/tmp".to_owned()]))),
        (Stage::Mount, warn, Action::MountRequest(share.clone())),
        (Stage::Mount, warn, Action::MountRequest(disk.clone())),
        (Stage::System, OnError::WarnExcept(Errno::NOENT), Action::InstallCa(CaInstall::default())),
        (Stage::System, OnError::Ignore, Action::SetHostname(c"vm".to_owned())),
        (Stage::System, OnError::Ignore, Action::DisableCtrlAltDel),
        (Stage::WorkingDirectory, fatal, Action::ChangeDirectory(c"/w".to_owned())),
    ];
    assert_eq!(steps, expected.map(|(stage, on_error, action)| Step { action, stage, on_error }));
    let plain = workload(&config(&[], "{}"), &self::options(&[]));
    assert_eq!(plain.len(), 3, "certificate, hostname, keys");
    let as_pid1 = workload(&config(&["KRUN_INIT_PID1=1"], "{}"), &self::options(&[]));
    assert_eq!(as_pid1[..], plain[..2], "what the keys do is the workload's business");
}

#[test]
fn a_certificate_that_was_asked_for_is_missed() {
    let steps = workload(&config(&[], "{}"), &options(&["PURLIN_CA_SOURCE=/ca.pem"]));
    assert!(
        steps
            .iter()
            .any(|step| matches!(step.action, Action::InstallCa(_)) && step.on_error == OnError::Warn)
    );
}
