//! The device with a driver that behaves as Linux's virtio_console, and with drivers that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod core_ops;
mod guest;
mod handshake;
mod hostile;
mod input;
mod life;
mod output;
mod terminal;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::*;
use guest::{Guest, eventually};

fn console_on_log() -> (PortConfig, Log) {
    let log = Log::default();
    (PortConfig::console().output(PortOutput::Lines(Box::new(log.clone()))), log)
}

fn output_port(name: &str, fd: impl Into<OwnedFd>) -> PortConfig {
    PortConfig::data(name).output(PortOutput::Fd(fd.into()))
}

fn input_port(name: &str, fd: impl Into<OwnedFd>) -> PortConfig {
    PortConfig::data(name).input(PortInput::Fd(fd.into()))
}

/// Bytes that show a gap, a repetition or a swap.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl LineSink for Log {
    fn line(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn suppressed(&mut self, lines: u64) {
        self.0.lock().unwrap().push(format!("... {lines}"));
    }
}
