//! Sockets between guest and host. Arguments are checked as libkrun does; there is no vsock device yet.

use std::collections::BTreeSet;
use std::path::Path;

use super::context::Context;
use super::guard::{Failure, done};
use super::pointers::{CBool, CText, CTextList};
use super::table;

/// KRUN_TSI_HIJACK_INET and KRUN_TSI_HIJACK_UNIX.
const TSI_FEATURES: u32 = 0x3;

/// No vsock device.
#[unsafe(no_mangle)]
pub extern "C" fn krun_disable_implicit_vsock(ctx_id: u32) -> i32 {
    done(|| table::update(ctx_id, |context| context.vsock_disabled = true))
}

/// A vsock device in place of the implicit one, which must have been disabled.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock(ctx_id: u32, tsi_features: u32) -> i32 {
    done(|| {
        if tsi_features & !TSI_FEATURES != 0 {
            return Err(Failure::invalid(format!("tsi_features: {tsi_features:#x} has unknown bits")));
        }
        table::with(ctx_id, |context| {
            if !context.vsock_disabled {
                let text = "there is an implicit vsock device; call krun_disable_implicit_vsock first";
                return Err(Failure::new(libc::EEXIST, text));
            }
            Err(no_vsock())
        })
    })
}

/// A vsock port on a Unix socket that something else listens on.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock_port(ctx_id: u32, port: u32, c_filepath: CText) -> i32 {
    krun_add_vsock_port2(ctx_id, port, c_filepath, 0)
}

/// The same, with a choice of who listens.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_vsock_port2(ctx_id: u32, _port: u32, c_filepath: CText, listen: CBool) -> i32 {
    done(|| {
        let path = c_filepath.required("c_filepath")?;
        if listen != 0 {
            check_unused(Path::new(&path))?;
        }
        table::with(ctx_id, |context| {
            check_enabled(context)?;
            Err(no_vsock())
        })
    })
}

/// Which ports of the guest are exposed, and as which of the host. NULL is as if it had not been called; an
/// empty list exposes nothing, which is what happens.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_port_map(ctx_id: u32, port_map: CTextList) -> i32 {
    done(|| {
        let Some(list) = port_map.optional("port_map")? else {
            return table::update(ctx_id, |_| ());
        };
        check_port_map(&list)?;
        table::with(ctx_id, |context| {
            check_enabled(context)?;
            if list.is_empty() { Ok(()) } else { Err(no_vsock()) }
        })
    })
}

fn check_enabled(context: &Context) -> Result<(), Failure> {
    if context.vsock_disabled {
        return Err(Failure::new(libc::ENODEV, "the machine has no vsock device"));
    }
    Ok(())
}

fn check_unused(path: &Path) -> Result<(), Failure> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::new(libc::EEXIST, format!("c_filepath: {path:?} exists"))),
        Err(e) => Err(Failure::invalid(format!("c_filepath: {path:?}: {e}"))),
    }
}

/// `host:guest` each, no port twice on one side.
fn check_port_map(list: &[String]) -> Result<(), Failure> {
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    for entry in list {
        let bad = |what| Failure::invalid(format!("port_map: {entry:?} {what}"));
        let (host, guest) = entry.split_once(':').ok_or_else(|| bad("is not HOST:GUEST"))?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad("has no port numbers"));
        let (host, guest) = (port(host)?, port(guest)?);
        if !(seen.0.insert(host) & seen.1.insert(guest)) {
            return Err(bad("has a port that was given before"));
        }
    }
    Ok(())
}

fn no_vsock() -> Failure {
    Failure::not_built("vsock device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_maps() {
        let table: [(&[&str], bool); 16] = [
            (&[], true),
            (&["80:80"], true),
            (&["8080:80", "8081:81"], true),
            (&["80:81", "81:80"], true),
            (&["0:0"], true),
            (&["+1:65535"], true),
            (&["80"], false),
            (&[""], false),
            (&[":"], false),
            (&["80:"], false),
            (&["80:80:80"], false),
            (&["65536:1"], false),
            (&["-1:1"], false),
            (&[" 1:1"], false),
            (&["1:80", "2:80"], false),
            (&["80:1", "80:2"], false),
        ];
        for (list, good) in table {
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(check_port_map(&list).is_ok(), good, "{list:?}");
        }
    }
}
