//! Bodies of fuzz targets: what must hold for any bytes. They panic if it does not.

use alloc::vec::Vec;

use crate::control::{Decoder, Event, MAX_PAYLOAD, Outbox, Request};
use crate::dhcp::{self, Client, Order};
use crate::ports::{Ports, directory_entries};
use crate::workload::Workload;
use crate::{ca, cmdline, file_config, json, mounts, net, netlink, rlimit};

/// The control channel, from either end: frames are bounded, and the cutting of the stream does not matter.
pub fn control(bytes: &[u8]) {
    let frames = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut found) = (Decoder::new(), Vec::new());
        for mut piece in pieces {
            while let Some(frame) = decoder.next(&mut piece) {
                assert!(frame.payload.len() <= MAX_PAYLOAD);
                found.push((frame.kind, frame.payload.len(), Request::decode(frame), Event::decode(frame)));
            }
            assert!(piece.is_empty());
        }
        found
    };
    let whole = frames(&mut core::iter::once(bytes));
    assert!(whole == frames(&mut bytes.chunks(1)));

    let mut outbox = Outbox::new();
    for event in whole.iter().filter_map(|(_, _, _, event)| event.as_ref()) {
        outbox.push(&event.encode());
        assert!(outbox.pending().len() <= Outbox::CAPACITY);
    }
}

/// The workload file: what is read is what would be written.
pub fn workload(bytes: &[u8]) {
    if let Ok(workload) = Workload::decode(bytes) {
        assert!(workload.encode().is_ok_and(|file| file == bytes));
    }
}

/// What PID 1 reads from its kernel, and the texts in its environment.
pub fn kernel_texts(bytes: &[u8]) {
    let _ = cmdline::has_word(bytes, b"tsi_hijack");
    let _ = netlink::result(bytes);
    let mut ports = Ports::default();
    for entry in directory_entries(bytes) {
        ports.add(entry, bytes);
    }
    for item in bytes.split(|&byte| byte == b',') {
        for request in [mounts::share(item), mounts::disk(item)].into_iter().flatten() {
            assert!(request.target.as_bytes().starts_with(b"/") && !request.source.is_empty());
        }
    }
    if let Ok(settings) = net::Settings::parse(bytes) {
        assert!(net::is_host(settings.address) && settings.prefix <= 32);
    }
    let _ = (mounts::options(bytes), mounts::is_mounted(bytes, b"/tmp"), ca::addition(bytes, b"x"));
    assert!(mounts::device_file_systems(bytes).count() <= bytes.len());
    for limit in rlimit::items(bytes).filter_map(rlimit::Rlimit::parse) {
        assert!(limit.soft <= limit.hard);
    }
}

/// The configuration file: bounded, and nothing that is not a user's id becomes one.
pub fn config_file(bytes: &[u8]) {
    let Ok((config, _)) = file_config::read(bytes) else { return };
    let ids = config.user.uid.iter().chain(&config.user.gid).chain(&config.user.groups);
    assert!(ids.into_iter().all(|&id| id != u32::MAX));
    let strings = config.command.len() + config.env.len() + config.tmpfs.len();
    assert!(strings <= json::MAX_VALUES && strings <= bytes.len());
    assert!(config.tmpfs.iter().all(|place| place.as_bytes().starts_with(b"/")));
    assert!(config.workdir.is_none_or(|path| !path.is_empty()));
}

/// A DHCP client among servers that send anything. The bytes are a script: 0 lets time pass, anything else is a packet's
/// length in units of four, with the bytes of the packet behind it; every second one is turned into an answer that is
/// meant for the client.
pub fn dhcp(bytes: &[u8]) {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let (mut now, mut xid) = (1000, [0; 4]);
    let mut client = Client::new(MAC, 7, now);
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let order = if length == 0 {
            rest = after;
            let Some(deadline) = client.deadline() else { continue };
            assert!(deadline >= now);
            now = deadline;
            client.tick(now)
        } else {
            let (packet, after) = after.split_at(after.len().min(usize::from(length) * 4));
            rest = after;
            let mut packet = packet.to_vec();
            if length % 2 == 0 && packet.len() > 240 {
                packet.splice(0..8, [2, 1, 6, 0].into_iter().chain(xid));
                packet.splice(28..34, MAC);
                packet.splice(236..240, [99, 130, 83, 99]);
            }
            client.receive(now, &packet, [10, 0, 2, 2])
        };
        match order {
            Some(Order::Send(_, packet)) => {
                assert_eq!(packet.len(), dhcp::packet::LENGTH);
                if let Some(found) = packet.get(4..8).and_then(|found| found.try_into().ok()) {
                    xid = found;
                }
            }
            Some(Order::Use(lease) | Order::Drop(lease)) => {
                let settings = lease.settings;
                assert!(net::is_host(settings.address) && settings.prefix <= 32);
                assert!(settings.mtu.is_some_and(|mtu| (1280..=65520).contains(&mtu)));
                assert!(settings.dns.len() <= bytes.len());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADS: [&[u8]; 3] = [b"\x01\x01\x04\0", b"PRLNEXEC\x01\0\0\0\x01\0\0\0", b"\"7=1:"];

    proptest! {
        #[test]
        fn targets_hold_for_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            control(&bytes);
            workload(&bytes);
            kernel_texts(&bytes);
            config_file(&bytes);
            dhcp(&bytes);
        }

        #[test]
        fn targets_hold_for_nearly_valid_bytes(
            head in proptest::sample::select(&HEADS[..]),
            bytes in proptest::collection::vec(0..6_u8, 0..200),
        ) {
            let bytes = [head, &bytes].concat();
            control(&bytes);
            workload(&bytes);
            kernel_texts(&bytes);
        }
    }
}
