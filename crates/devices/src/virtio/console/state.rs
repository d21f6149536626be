//! Saved form of the control machine and the ports.

use purlin_snapshot::{DecodeError, Reader, Writer};

use super::config::MAX_PORTS;
use super::control::Control;
use super::port::{Due, Port, PortRole, PortSpec};
use super::protocol::{MAX_NAME_LEN, WindowSize};
use crate::virtio::RestoreError;

/// What a port's queues need besides their positions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PortProgress {
    /// Bytes of the first buffer in the transmit ring that already went out.
    pub tx_done: u32,
    /// Unfinished line of a log port.
    pub line: Vec<u8>,
}

pub(super) fn save_control(w: &mut Writer, control: &Control) {
    w.bool(control.multiport);
    w.bool(control.driver_ready);
    for port in &control.ports {
        for flag in [port.added, port.ready, port.guest_open, port.host_open, port.removed] {
            w.bool(flag);
        }
        w.u8(port.due.bits());
        w.bool(port.size.is_some());
        let WindowSize { cols, rows } = port.size.unwrap_or_default();
        w.u16(cols);
        w.u16(rows);
    }
}

/// Reads what [`save_control`] wrote into a machine with the same ports.
pub(super) fn load_control(r: &mut Reader<'_>, control: &mut Control) -> Result<(), RestoreError> {
    let multiport = r.bool("multiport")?;
    if multiport != control.multiport {
        return Err(mismatch("multiport", multiport, control.multiport));
    }
    control.driver_ready = r.bool("driver_ready")?;
    for port in &mut control.ports {
        let new_end = port.host_open;
        port.added = r.bool("port.added")?;
        port.ready = r.bool("port.ready")?;
        port.guest_open = r.bool("port.guest_open")?;
        port.host_open = r.bool("port.host_open")?;
        port.removed = r.bool("port.removed")?;
        let due = r.u8("port.due")?;
        port.due = Due::from_bits(due).ok_or(DecodeError::Value { field: "port.due", value: due.into() })?;
        let known = r.bool("port.size_known")?;
        let saved = WindowSize { cols: r.u16("port.cols")?, rows: r.u16("port.rows")? };
        reconnect(port, new_end, known.then_some(saved));
    }
    Ok(())
}

/// The port has new host ends: their size and connection are what counts, and the guest is told.
fn reconnect(port: &mut Port, connected: bool, saved: Option<WindowSize>) {
    port.size = port.size.or(saved);
    if let Some(size) = port.size {
        port.resize(size);
    }
    if !port.removed {
        port.set_host_open(connected);
    }
}

/// Number, roles and names of the ports, for comparison.
pub(super) fn save_identity(w: &mut Writer, ports: &[PortSpec]) {
    w.u32(u32::try_from(ports.len()).unwrap_or(u32::MAX));
    for port in ports {
        w.bool(port.role == PortRole::Console);
        w.str(&port.name);
    }
}

/// Compares what [`save_identity`] wrote with the configured ports.
pub(super) fn check_identity(r: &mut Reader<'_>, ports: &[PortSpec]) -> Result<(), RestoreError> {
    let count = r.count("ports", MAX_PORTS as u32)? as usize;
    if count != ports.len() {
        return Err(mismatch("ports", count, ports.len()));
    }
    for port in ports {
        let console = r.bool("port.console")?;
        let name = r.str("port.name", MAX_NAME_LEN as u32)?;
        let configured = port.role == PortRole::Console;
        if console != configured {
            return Err(mismatch("port role is console", console, configured));
        }
        if name != port.name {
            return Err(mismatch("port name", name, &port.name));
        }
    }
    Ok(())
}

pub(super) fn save_progress(w: &mut Writer, progress: impl Iterator<Item = PortProgress>) {
    for port in progress {
        w.u32(port.tx_done);
        w.bytes(&port.line);
    }
}

pub(super) fn load_progress(r: &mut Reader<'_>, ports: usize) -> Result<Vec<PortProgress>, RestoreError> {
    let limit = super::lines::MAX_LINE as u32;
    let one = |r: &mut Reader<'_>| {
        let tx_done = r.u32("port.tx_done")?;
        Ok(PortProgress { tx_done, line: r.bytes("port.line", limit)?.to_vec() })
    };
    (0..ports).map(|_| one(r)).collect()
}

fn mismatch(field: &'static str, saved: impl ToString, configured: impl ToString) -> RestoreError {
    RestoreError::Mismatch { field, saved: saved.to_string(), configured: configured.to_string() }
}
