//! TensorBoard's event file, read back by the format's own words.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Ended, Place};
use crate::export::python;
use crate::papers::paper;

/// CRC32C bit by bit, masked as TensorFlow's records have it.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 });
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return number;
        }
    }
}

/// The fields of a message: their numbers, with their bytes or, of a number, it.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (length, number) = match key & 7 {
            0 => (0, varint(&mut bytes)),
            1 => (8, 0),
            2 => (varint(&mut bytes) as usize, 0),
            _ => (4, 0),
        };
        all.push((key >> 3, bytes[..length].to_vec(), number));
        bytes = &bytes[length..];
    }
    all
}

/// Time, step, name and value of every scalar of a run's only event file.
fn scalars(run: &Path) -> Vec<(f64, u64, String, f32)> {
    let files = fs::read_dir(run).expect("a folder").flatten().map(|entry| entry.path());
    let files: Vec<_> = files.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = fs::read(&files[0]).expect("readable");
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight")) as usize;
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four"));
        let event = &rest[12..12 + length];
        assert_eq!((word(8), word(12 + length)), (masked(&rest[..8]), masked(event)));
        rest = &rest[16 + length..];
        let event = fields(event);
        let of = |wanted: u64| event.iter().find(|(field, ..)| *field == wanted);
        // Time, step, version, summary, a session's start, by event.proto.
        assert!(event.iter().all(|(field, ..)| [1, 2, 3, 5, 7].contains(field)), "{event:?}");
        of(7).iter().for_each(|(_, session, _)| assert_eq!(session, &[0x08, 1]));
        let time = f64::from_le_bytes(of(1).expect("a time").1[..].try_into().expect("eight"));
        for (_, value, _) in of(5).map(|(_, summary, _)| fields(summary)).unwrap_or_default() {
            let value = fields(&value);
            let [(1, name, _), (2, number, _)] = &value[..] else { panic!("{value:?}") };
            let number = f32::from_le_bytes(number[..].try_into().expect("four"));
            all.push((time, of(2).expect("a step").2, String::from_utf8(name.clone()).expect("UTF-8"), number));
        }
    }
    all
}

const READ: &str = r#"
import sys
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("skipped: no tensorboard"); sys.exit()
found = EventAccumulator(sys.argv[1]); found.Reload()
print([(e.step, round(e.value, 4)) for e in found.Scalars("mean")])
print([h.histogram_value.num for h in found.Histograms("distance")] if "distance" in found.Tags()["histograms"] else [])
"#;

#[test]
fn event_files_hold_the_log_once_also_after_a_resume() {
    assert_eq!(masked(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    let case = paper("sixth");
    let place = Place::new(case.program, "--data drawn --people 3 --steps 9 --log-every 2");
    place.good("train @run --checkpoint-every 3");
    // From an earlier checkpoint: what was logged behind it is logged again.
    fs::remove_file(place.path("run/checkpoint.safetensors")).expect("removed");
    place.good("train @run --tensorboard");
    let first = scalars(&place.path("run"));
    // A finished run too, again in place of the older one.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    place.good("train @run --tensorboard");
    let found = scalars(&place.path("run"));
    let sorted = |mut all: Vec<(f64, u64, String, f32)>| {
        all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        all
    };
    assert_eq!(sorted(first), sorted(found.clone()));
    for (name, pointer) in [("mean", "/mean"), ("active", "/active")] {
        let log: Vec<_> = (place.log("run").iter())
            .map(|line| {
                (
                    line["step"].as_u64().expect("a step"),
                    line.pointer(pointer).and_then(|x| x.as_f64()).expect("a number") as f32,
                )
            })
            .collect();
        let ours: Vec<_> =
            found.iter().filter(|(_, _, known, _)| known == name).map(|&(_, step, _, value)| (step, value)).collect();
        assert_eq!(ours, log, "{name}");
        assert_eq!(log.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
    }
    assert!(found.iter().all(|(time, ..)| *time > 1e9));
    assert!(found.iter().any(|(_, _, name, _)| name == "timing/images_per_second"));
    assert!(!found.iter().any(|(_, _, name, _)| name == "step" || name == "timing/time"));
    // As TensorBoard itself reads it.
    let Some(python) = python() else { return };
    let said = Ended::of(Command::new(python).args(["-c", READ]).arg(place.path("run"))).well().out;
    assert!(said.starts_with("skipped") || said.starts_with("[(0, ") && said.matches('(').count() == 5, "{said}");
}
