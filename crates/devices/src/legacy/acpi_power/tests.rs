use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[derive(Default)]
struct Line(AtomicU32);

impl IrqLine for Line {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

type Requests = Arc<Mutex<Vec<PowerRequest>>>;

fn device() -> (AcpiPower, Requests, Arc<Line>) {
    let (requests, line) = (Requests::default(), Arc::new(Line::default()));
    let seen = requests.clone();
    let device = AcpiPower::new(line.clone(), move |request| seen.lock().unwrap().push(request));
    (device, requests, line)
}

fn read(device: &mut AcpiPower, offset: u64) -> u8 {
    let mut data = [0xaa];
    device.read(offset, &mut data);
    data[0]
}

/// Every byte at every port: only the two that the tables name do something.
#[test]
fn off_and_reset_and_nothing_else() {
    let (mut device, requests, _) = device();
    for offset in 0..POWER_LEN {
        for value in 0..=0xff {
            device.write(offset, &[value]);
            let expected = match offset {
                0 if value & 0x3c == 0x34 => vec![PowerRequest::Off],
                2 if value == 1 => vec![PowerRequest::Reset],
                _ => vec![],
            };
            assert_eq!(std::mem::take(&mut *requests.lock().unwrap()), expected, "{value:#x} at {offset}");
        }
    }
    device.write(0, &[0x34, 0x34]);
    device.write(2, &[1, 0, 0, 0]);
    device.write(2, &[]);
    assert!(requests.lock().unwrap().is_empty());
}

#[test]
fn a_press_is_seen_once() {
    let (mut device, _, line) = device();
    assert_eq!(read(&mut device, 3), 0);
    device.press_button();
    device.press_button();
    assert_eq!(line.0.load(Ordering::Relaxed), 2);
    let mut wide = [0xaa; 4];
    device.read(3, &mut wide);
    device.read(0, &mut wide);
    assert_eq!(wide, [0; 4]);
    assert_eq!((read(&mut device, 1), read(&mut device, 3), read(&mut device, 3)), (0, 1, 0));
}

#[test]
fn an_unseen_press_survives() {
    let (mut pressed, ..) = device();
    pressed.press_button();
    let section = pressed.save(2);
    let (mut other, ..) = device();
    other.restore(&section).unwrap();
    assert_eq!((section.id.instance, read(&mut other, 3)), (2, 1));

    for (kind, version, payload) in
        [(0x280, 1, vec![1]), (0x281, 2, vec![1]), (0x281, 1, vec![]), (0x281, 1, vec![1, 1])]
    {
        let wrong = Section::new(SectionId { kind, version, instance: 0 }, payload);
        assert!(other.restore(&wrong).is_err());
    }
    let unknown = Section::new(SectionId { kind: 0x281, version: 1, instance: 0 }, vec![0xfe]);
    other.restore(&unknown).unwrap();
    assert_eq!(read(&mut other, 3), 0);
}
