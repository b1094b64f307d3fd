//! TensorBoard's event file of a training: the numbers and histograms of `log.jsonl` and `timing.jsonl` by their steps, each at the time
//! when it was logged. A record is its length, that length's checksum, the event as a protocol buffer, its checksum.
//! Ours, since the crates that write histograms into such files (tensorboard-rs, tfrecord) were last released in 2022 and 2023 and
//! bring libraries of protocol buffers and of images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use serde_json::Value;

use super::history;
use crate::files;

static CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What TensorBoard knows event files by, and what ends the names of ours.
const NAME: (&str, &str) = ("events.out.tfevents.", ".rankle");

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64())
}

/// An event file at work.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    file: File,
}

impl Board {
    /// A file of what a run's logs hold so far, in place of an older one: no step stands twice. A TensorBoard that watches
    /// goes on with the new one.
    ///
    /// # Errors
    /// Where the logs cannot be read or the file not be written.
    pub fn open(run: &Path) -> Result<Board> {
        for entry in fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(NAME.0) && name.ends_with(NAME.1) {
                fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        let path = run.join(format!("{}{:.0}{}", NAME.0, now(), NAME.1));
        let file = files::own(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut board = Board { path, file };
        board.event(0., 0, &bytes(3, b"brain.Event:2"))?;
        // A session's start: what a watching TensorBoard has from its step on goes.
        board.event(now(), 0, &bytes(7, &[0x08, 1]))?;
        let timing = history::lines(&run.join("timing.jsonl"))?;
        let timing: BTreeMap<_, _> = timing.into_iter().map(|line| (line["step"].as_u64(), line)).collect();
        for line in history::lines(&run.join("log.jsonl"))?.iter().filter(|line| line.get("warning").is_none()) {
            board.line(line, timing.get(&line["step"].as_u64()).unwrap_or(&Value::Null))?;
        }
        Ok(board)
    }

    /// Adds the numbers of a log line, by their names, and those of its line of timing.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn line(&mut self, line: &Value, timing: &Value) -> Result<()> {
        let mut all = Vec::new();
        numbers("", line, &mut all);
        numbers("timing", timing, &mut all);
        let of = |(name, number): &(String, f64)| {
            let number = (*number as f32).to_le_bytes();
            bytes(1, &[bytes(1, name.as_bytes()), vec![0x15], number.to_vec()].concat())
        };
        let mut summary: Vec<u8> = all.iter().flat_map(of).collect();
        for (name, of) in line.as_object().into_iter().flatten() {
            let histogram = histogram(of).map(|of| [bytes(1, name.as_bytes()), bytes(5, &of)].concat());
            summary.extend(histogram.into_iter().flat_map(|value| bytes(1, &value)));
        }
        self.event(timing["time"].as_f64().unwrap_or_else(now), line["step"].as_u64().unwrap_or(0), &bytes(5, &summary))
    }

    fn event(&mut self, time: f64, step: u64, what: &[u8]) -> Result<()> {
        let event = [&[0x09][..], &time.to_le_bytes(), &[0x10], &varint(step), what].concat();
        let length = (event.len() as u64).to_le_bytes();
        let masked = |of: &[u8]| CHECK.checksum(of).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
        let record = [&length[..], &masked(&length), &event, &masked(&event)].concat();
        self.file.write_all(&record).with_context(|| format!("cannot write {}: free space", self.path.display()))
    }
}

/// The numbers of `value` by their names: `distance/p50`.
fn numbers(name: &str, value: &Value, into: &mut Vec<(String, f64)>) {
    let below = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}/{key}") };
    match value {
        Value::Number(number) => into.extend(number.as_f64().map(|number| (name.to_string(), number))),
        Value::Object(all) => all
            .iter()
            .filter(|(key, _)| !["step", "time", "bins"].contains(&key.as_str()))
            .for_each(|(key, value)| numbers(&below(key), value, into)),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, value)| numbers(&below(&i.to_string()), value, into)),
        _ => {}
    }
}

/// The histogram of a log line's "bins", counts in bins of one width from "p0" to "p100": TensorBoard's smallest and largest
/// number, count, sum and sum of squares (as if all lay in the middle of their bins), upper edges and counts.
fn histogram(of: &Value) -> Option<Vec<u8>> {
    let (low, high) = (of.get("p0")?.as_f64()?, of.get("p100")?.as_f64()?);
    let counts: Vec<f64> = of.get("bins")?.as_array()?.iter().filter_map(Value::as_f64).collect();
    let edge = |i: usize| low + (high - low) * i as f64 / counts.len() as f64;
    let sum = |power: i32| -> f64 {
        counts.iter().enumerate().map(|(i, count)| count * ((edge(i) + edge(i + 1)) / 2.).powi(power)).sum()
    };
    let doubles = |all: &mut dyn Iterator<Item = f64>| all.flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
    let plain = [low, high, sum(0), sum(1), sum(2)].into_iter().enumerate();
    let plain = plain.flat_map(|(i, x)| [&[(i as u8 + 1) << 3 | 1][..], &x.to_le_bytes()].concat());
    let edges = bytes(6, &doubles(&mut (1..=counts.len()).map(edge)));
    Some([plain.collect(), edges, bytes(7, &doubles(&mut counts.iter().copied()))].concat())
}

/// A protocol buffer's number of variable length.
fn varint(mut number: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while number >= 0x80 {
        all.push(number as u8 | 0x80);
        number >>= 7;
    }
    all.push(number as u8);
    all
}

/// A field of bytes, text or a message.
fn bytes(field: u8, of: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(of.len() as u64), of].concat()
}
