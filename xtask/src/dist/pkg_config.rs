//! The pkg-config file.

/// The text of `libkrun.pc` for a library of this version below `prefix` (man 5 pc).
pub fn text(prefix: &str, version: &str) -> String {
    // In this format a backslash quotes the next character.
    let prefix = prefix.replace('\\', r"\\").replace(' ', r"\ ");
    format!(
        "prefix={prefix}\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: libkrun\n\
         Description: MicroVMs in a library, with libkrun's C API\n\
         Version: {version}\n\
         Requires:\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lkrun\n"
    )
}

#[cfg(test)]
mod tests {
    use super::text;
    use std::process::Command;

    #[test]
    fn every_field_is_there() {
        let text = text("/opt/purlin", "1.19.7");
        for line in [
            "prefix=/opt/purlin",
            "libdir=${prefix}/lib",
            "includedir=${prefix}/include",
            "Name: libkrun",
            "Version: 1.19.7",
            "Requires:",
            "Cflags: -I${includedir}",
            "Libs: -L${libdir} -lkrun",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}");
        }
    }

    #[test]
    fn pkg_config_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let prefix = home.path().join("with space");
        std::fs::create_dir(&prefix).unwrap();
        std::fs::write(prefix.join("libkrun.pc"), text(prefix.to_str().unwrap(), "1.19.7")).unwrap();
        let mut command = Command::new("pkg-config");
        command.args(["--libs", "--cflags", "libkrun"]).env("PKG_CONFIG_PATH", &prefix);
        let Ok(output) = command.output() else {
            eprintln!("skipped: needs pkg-config");
            return;
        };
        let flags = String::from_utf8(output.stdout).unwrap();
        assert!(
            flags.contains("-lkrun") && flags.contains(r"with\ space/lib"),
            "{flags} {output:?}",
            output = output.stderr
        );
    }
}
