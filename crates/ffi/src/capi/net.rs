//! Network devices. Arguments are checked as libkrun does; there is no network device yet.

use super::guard::{Failure, done};
use super::pointers::{CMac, CText};
use super::table;

const FLAG_VFKIT: u32 = 1 << 0;
const FLAG_DHCP_CLIENT: u32 = 1 << 1;
/// CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_UFO, HOST_TSO4, HOST_TSO6, HOST_UFO (virtio 1.2 §5.1.3).
const FEATURES: u32 = 1 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;
const GUEST_CSUM: u32 = 1 << 1;
/// GUEST_TSO4, GUEST_TSO6, GUEST_UFO: offloads that leave checksums to the guest.
const GUEST_OFFLOADS: u32 = 1 << 7 | 1 << 8 | 1 << 10;
/// Bytes of an interface name (Linux IFNAMSIZ, less the NUL).
const INTERFACE_NAME_MAX: usize = 15;

/// A stream of frames, each after its length (passt).
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_net_unixstream(
    ctx_id: u32,
    c_path: CText,
    fd: i32,
    c_mac: CMac,
    features: u32,
    flags: u32,
) -> i32 {
    done(|| {
        check_socket(c_path, fd)?;
        c_mac.required("c_mac")?;
        check_bits("flags", flags, FLAG_DHCP_CLIENT)?;
        check_bits("features", features, FEATURES)?;
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// A frame per datagram (gvproxy, vmnet-helper).
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_net_unixgram(
    ctx_id: u32,
    c_path: CText,
    fd: i32,
    c_mac: CMac,
    features: u32,
    flags: u32,
) -> i32 {
    done(|| {
        check_socket(c_path, fd)?;
        c_mac.required("c_mac")?;
        check_bits("features", features, FEATURES)?;
        check_bits("flags", flags, FLAG_VFKIT | FLAG_DHCP_CLIENT)?;
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// A TAP interface of the host.
#[unsafe(no_mangle)]
pub extern "C" fn krun_add_net_tap(
    ctx_id: u32,
    c_tap_name: CText,
    c_mac: CMac,
    features: u32,
    flags: u32,
) -> i32 {
    done(|| {
        let name = c_tap_name.required("c_tap_name")?;
        if name.len() > INTERFACE_NAME_MAX {
            let text = format!("c_tap_name: {} bytes, {INTERFACE_NAME_MAX} are possible", name.len());
            return Err(Failure::invalid(text));
        }
        c_mac.required("c_mac")?;
        check_bits("features", features, FEATURES)?;
        if features & GUEST_OFFLOADS != 0 && features & GUEST_CSUM == 0 {
            return Err(Failure::invalid("features: TSO and UFO of the guest need GUEST_CSUM"));
        }
        check_bits("flags", flags, FLAG_DHCP_CLIENT)?;
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// passt, as before `krun_add_net_unixstream`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_passt_fd(ctx_id: u32, fd: i32) -> i32 {
    done(|| {
        if fd < 0 {
            return Err(Failure::invalid(format!("fd: {fd}")));
        }
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// gvproxy, as before `krun_add_net_unixgram`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_gvproxy_path(ctx_id: u32, c_path: CText) -> i32 {
    done(|| {
        c_path.required("c_path")?;
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// Address of the device of the two calls above.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_net_mac(ctx_id: u32, c_mac: CMac) -> i32 {
    done(|| {
        c_mac.required("c_mac")?;
        table::with(ctx_id, |_| Err(no_net()))
    })
}

/// Either a path or a descriptor. A path that is no text counts as none (libkrun's rule).
fn check_socket(path: CText, fd: i32) -> Result<(), Failure> {
    let path = path.optional("c_path").unwrap_or_default();
    match (path.is_some(), fd >= 0) {
        (true, true) => Err(Failure::invalid("c_path and fd: give one of them")),
        (false, false) => Err(Failure::invalid("c_path and fd: one of them is needed")),
        _ => Ok(()),
    }
}

fn check_bits(name: &str, value: u32, allowed: u32) -> Result<(), Failure> {
    match value & !allowed {
        0 => Ok(()),
        odd => Err(Failure::invalid(format!("{name}: bits {odd:#x} are not possible here"))),
    }
}

fn no_net() -> Failure {
    Failure::not_built("network devices")
}
