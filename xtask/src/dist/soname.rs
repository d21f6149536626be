//! Reading a shared library's SONAME.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::DT_SONAME;
use elf::endian::AnyEndian;

/// The SONAME of the shared library in `file`.
pub fn read(file: &[u8]) -> Result<String> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(file).context("no ELF file")?;
    let entries = elf.dynamic().context("its dynamic section is damaged")?.context("no shared library")?;
    let soname = entries.iter().find(|entry| entry.d_tag == DT_SONAME).context("it has no SONAME")?;
    let (_, strings) = elf.dynamic_symbol_table()?.context("no dynamic symbols")?;
    Ok(strings.get(usize::try_from(soname.d_val())?)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::process::Command;

    #[test]
    fn the_name_that_the_linker_wrote() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("any.so");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-Wl,-soname,libthing.so.7", "-o"]).arg(&file).args(["-x", "c", "/dev/null"]);
        assert!(cc.status().unwrap().success());
        assert_eq!(read(&std::fs::read(&file).unwrap()).unwrap(), "libthing.so.7");
    }

    #[test]
    fn other_files_are_refused() {
        for other in [b"".as_slice(), b"text", b"\x7fELF\x02\x01\x01"] {
            assert!(read(other).is_err());
        }
    }
}
