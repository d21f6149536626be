//! How the guest's init learns what to run: on the kernel command line where that carries it unchanged, else
//! in a file on the root. Pure.

use std::ffi::OsString;

use purlin_init::abi::{ENV_EXEC_FILE, ENV_PORTS, ENV_VIRTIOFS_MOUNTS, EXEC_FILE_PATH};
use purlin_vmm_core::boot::cmdline::{Cmdline, CmdlineError, Limits, default_words};

use super::early;
use crate::config::{ConfigError, Share, VmConfig};

/// The way chosen.
pub(super) struct Plan {
    /// Command line without devices.
    line: Cmdline,
    file: Option<Vec<u8>>,
}

/// Room kept for device words when it is decided whether values fit: `virtio_mmio.device=4K@0xd0000000:23 `.
const DEVICE_WORD: usize = 39;
const MAX_DEVICES: usize = 19;

/// Decides between command line and file. The file is used if the line would be too long or would change a
/// value, and our init is on a root device to read it. `more` are further words for the kernel.
pub(super) fn plan(config: &VmConfig, ports: &[&str], more: &[&str]) -> Result<Plan, ConfigError> {
    let VmConfig { exec, shares, .. } = config;
    let words: usize = config.network.kernel_words().iter().map(|word| word.len() + 1).sum();
    let reserve = MAX_DEVICES * DEVICE_WORD + words;
    let refused = match on_the_line(config, ports, more) {
        Ok(line) if line.len() + reserve <= Limits::default().bytes => {
            return Ok(Plan { line, file: None });
        }
        Ok(line) => CmdlineError::TooLong { len: line.len(), limit: Limits::default().bytes },
        Err(refused) => refused,
    };
    if !config.has_our_init() || !shares.iter().any(Share::is_root) {
        return Err(refused.into());
    }
    let mut line = kernel_words(config, ports, more)?;
    line.env(ENV_EXEC_FILE, EXEC_FILE_PATH)?;
    Ok(Plan { line, file: Some(exec.workload().encode()?) })
}

impl Plan {
    /// Contents of the workload file, if that is the way.
    pub fn file(&self) -> Option<&[u8]> {
        self.file.as_deref()
    }

    /// The whole line, with the devices at these places, and words that each come after so many of them.
    pub fn cmdline(&self, places: &[(u64, u32)], words: &[(usize, &str)]) -> Result<String, ConfigError> {
        let mut line = self.line.clone();
        for (before, &(base, irq)) in (1..).zip(places) {
            line.virtio_mmio(base, irq)?;
            for (_, word) in words.iter().filter(|(devices, _)| *devices == before) {
                line.word(word)?;
            }
        }
        Ok(line.finish()?)
    }
}

/// The kernel's own words, and the ports our init waits for: the kernel learns their names late.
fn kernel_words(config: &VmConfig, ports: &[&str], more: &[&str]) -> Result<Cmdline, CmdlineError> {
    let mut line = Cmdline::new(Limits::default());
    match &config.cmdline {
        Some(words) => line.prolog(words)?,
        None => line.prolog(&default_words(!config.jitter_self_test).join(" "))?,
    };
    for word in more.iter().copied().chain(early::word(config)) {
        line.word(word)?;
    }
    if config.has_our_init() {
        line.env(ENV_PORTS, &ports.join(","))?;
        let mounts: Vec<String> = config.shares.iter().filter_map(Share::mount_word).collect();
        if !mounts.is_empty() {
            line.env(ENV_VIRTIOFS_MOUNTS, &mounts.join(","))?;
        }
    }
    Ok(line)
}

fn on_the_line(config: &VmConfig, ports: &[&str], more: &[&str]) -> Result<Cmdline, CmdlineError> {
    let exec = &config.exec;
    let mut line = kernel_words(config, ports, more)?;
    if let Some(program) = &exec.program {
        line.env("KRUN_INIT", &text("exec", program)?)?;
    }
    if let Some(workdir) = &exec.workdir {
        line.env("KRUN_WORKDIR", &text("workdir", workdir)?)?;
    }
    if !exec.rlimits.is_empty() {
        line.env("KRUN_RLIMITS", &exec.rlimits.join(","))?;
    }
    for entry in &exec.env {
        let entry = text("env", entry)?;
        let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
        line.env(name, value)?;
    }
    for arg in &exec.args {
        line.arg(&text("args", arg)?)?;
    }
    Ok(line)
}

fn text(field: &str, value: &OsString) -> Result<String, CmdlineError> {
    match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let value = value.to_string_lossy().into_owned();
            Err(CmdlineError::NotPrintable { field: field.to_owned(), position: 0, byte: 0xff, value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Exec, Root};

    fn config(exec: Exec) -> VmConfig {
        VmConfig::new().root(Root::dir("/")).exec(exec)
    }

    fn made(config: &VmConfig) -> Plan {
        plan(config, &["krun-stdout", "purlin-control"], &[]).unwrap()
    }

    #[test]
    fn plain_values_go_on_the_line() {
        let exec =
            Exec::new("/bin/sh").args(["-c", "exit 7"]).env("A", "b c").workdir("/tmp").rlimit(7, 1, 2);
        let config = config(exec);
        let plan = made(&config);
        assert!(plan.file().is_none());
        let line = plan.cmdline(&[(0xd000_0000, 5)], &[(1, "tsi_hijack")]).unwrap();
        let tail = r#"PURLIN_PORTS=krun-stdout,purlin-control KRUN_INIT=/bin/sh KRUN_WORKDIR=/tmp KRUN_RLIMITS=7=1:2 "A=b c" -- -c "exit 7""#;
        assert!(line.ends_with(tail), "{line}");
        assert!(line.contains("virtio_mmio.device=4K@0xd0000000:5 tsi_hijack "), "{line}");
    }

    #[test]
    fn mounts_are_for_our_init() {
        let share = |tag| crate::config::Share::new(tag, "/srv");
        let config = config(Exec::new("/bin/sh"))
            .share(share("a").mount_at("/a"))
            .share(share("b"))
            .share(share("c").read_only().mount_at("/c/c"));
        let line = made(&config).cmdline(&[], &[]).unwrap();
        assert!(line.contains(" PURLIN_VIRTIOFS_MOUNTS=a:/a,c:/c/c:ro "), "{line}");
    }

    #[test]
    fn values_the_line_would_change_go_into_a_file() {
        let table = [
            Exec::new("/bin/sh").arg("say \"hi\""),
            Exec::new("/bin/sh").arg("höhe"),
            Exec::new("/bin/sh").arg("a\nb"),
            Exec::new("/bin/sh").arg("--"),
            Exec::new("/bin/sh").env("mem", "1G"),
            Exec::new("/bin/sh").env("a.b", "1"),
            Exec::new("/bin/sh").arg("x".repeat(2000)),
            (0..40).fold(Exec::new("/bin/sh"), |e, i| e.env(format!("V{i}"), "x")),
            (0..40).fold(Exec::new("/bin/sh"), |e, _| e.arg("x")),
        ];
        for exec in table {
            let config = config(exec.clone());
            let plan = made(&config);
            let file = plan.file().unwrap_or_else(|| panic!("{exec:?} stayed on the line"));
            let read = purlin_init::workload::Workload::decode(file).unwrap();
            assert_eq!(read, exec.workload());
            let line = plan.cmdline(&[], &[]).unwrap();
            assert!(line.ends_with("PURLIN_EXEC_FILE=/init.krun.exec"), "{line}");
        }
    }

    #[test]
    fn without_our_init_the_refusal_names_the_argument() {
        let config = config(Exec::new("/bin/sh").args(["ok", "say \"hi\""])).implicit_init(false);
        let error = plan(&config, &[], &[]).err().unwrap().to_string();
        assert!(error.contains("argument 2") && error.contains("hi"), "{error}");
    }

    #[test]
    fn the_line_has_room_for_every_device() {
        let config = config(Exec::new("/bin/sh").arg("x".repeat(900)));
        let places: Vec<_> = (0..19).map(|i| (0xd000_0000 + i * 0x1000, 5 + i as u32)).collect();
        assert!(made(&config).cmdline(&places, &[]).is_ok());
    }
}
