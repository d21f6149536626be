//! What a kernel prints before it has its console, when the console is a file.
//!
//! A virtio console needs a driver, which a stock kernel may have as a module. Until then it prints on a serial line,
//! if it is told so (Linux, admin-guide/kernel-parameters.txt, "earlycon"): the first line then leads to the same file,
//! unless somebody else has it. libkrunfw's kernel has no driver for serial lines, and would wait for ever for one that
//! is not there, which is why word and line belong together.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::BuildError;
use crate::config::{Console, Kernel, SerialLine, VmConfig};

/// For the kernel's command line.
const WORD: &str = "earlycon=uart8250,io,0x3f8,115200";

/// The file, if there is such a line.
fn file(config: &VmConfig) -> Option<&Path> {
    match (&config.console, &config.kernel) {
        (Console::File(path), Kernel::Image { .. } | Kernel::Firmware(_))
            if config.serial_lines.is_empty() =>
        {
            Some(path)
        }
        _ => None,
    }
}

/// The word for such a line, unless the command line says something of early output itself.
pub(super) fn word(config: &VmConfig) -> Option<&'static str> {
    let words = config.cmdline.as_deref().unwrap_or_default();
    let said = words.split(' ').any(|word| word.starts_with("earlycon") || word.starts_with("earlyprintk"));
    file(config).filter(|_| !said).map(|_| WORD)
}

/// The line itself. The file has been created before. Firmware has a first line in any case, which may lead nowhere.
pub(super) fn line(config: &VmConfig) -> Result<Option<SerialLine>, BuildError> {
    let Some(path) = file(config) else {
        let missing = matches!(config.kernel, Kernel::Firmware(_)) && config.serial_lines.is_empty();
        return Ok(missing.then(|| SerialLine::new(None, None)));
    };
    let end = OpenOptions::new().append(true).open(path).map_err(BuildError::host("console file"))?;
    Ok(Some(SerialLine::new(None, Some(end.into()))))
}

/// A file that several write to, each at its end. What was in it is gone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_APPEND).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;
    use std::io::Write;

    use super::*;

    #[test]
    fn which_machines_have_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let config = || VmConfig::new().console(Console::file(&path)).kernel(Kernel::file("vmlinux"));
        assert_eq!(word(&config()), Some(WORD));
        assert_eq!(word(&config().cmdline("console=hvc0 quiet")), Some(WORD));
        for words in ["earlycon", "quiet earlycon=x", "earlyprintk=serial"] {
            assert_eq!(word(&config().cmdline(words)), None);
            create(&path).unwrap();
            assert!(line(&config().cmdline(words)).unwrap().is_some(), "{words}");
        }
        let others = [
            config().kernel(Kernel::Libkrunfw),
            config().console(Console::null()),
            config().serial_line(SerialLine::new(None, None)),
        ];
        for other in others {
            assert!(word(&other).is_none() && line(&other).unwrap().is_none(), "{other:?}");
        }
        let firmware = config().kernel(Kernel::firmware("rom")).console(Console::null());
        assert!(line(&firmware).unwrap().unwrap().output.is_none());
    }

    #[test]
    fn nobody_overwrites_anybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, "of an earlier machine").unwrap();
        let mut console = create(&path).unwrap();
        let config = VmConfig::new().console(Console::file(&path)).kernel(Kernel::file("vmlinux"));
        let mut early = File::from(line(&config).unwrap().unwrap().output.unwrap());
        early.write_all(b"early ").unwrap();
        console.write_all(b"late ").unwrap();
        early.write_all(b"end").unwrap();
        assert_eq!(read_to_string(path).unwrap(), "early late end");
        assert!(create(Path::new("/dev/null")).is_ok());
    }
}
