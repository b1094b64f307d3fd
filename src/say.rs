//! What a program says: results on standard output, notes and errors on standard error, a bar on a terminal.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The number of this process among several at one run.
static PROCESS: AtomicUsize = AtomicUsize::new(0);

/// From now on this is process `rank` of several: only process 0 speaks, but for errors.
pub fn speak_for(rank: usize) {
    PROCESS.store(rank, Ordering::SeqCst);
}

/// Whether this process is the one that speaks.
pub fn speaks() -> bool {
    PROCESS.load(Ordering::SeqCst) == 0
}

/// A line on standard error. Where nobody reads it any more (a closed pipe), work goes on. Of several processes at one
/// run only process 0 says anything.
pub fn say(text: impl std::fmt::Display) {
    if speaks() {
        cry(text);
    }
}

/// What the user must know of the input, as a line on standard error; a program says it once.
pub fn note(text: impl std::fmt::Display) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("note: {text}");
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        say(line);
    }
}

/// A line on standard error from any process; one beside process 0 is named.
pub fn cry(text: impl std::fmt::Display) {
    let _ = match PROCESS.load(Ordering::SeqCst) {
        0 => writeln!(std::io::stderr(), "{text}"),
        rank => writeln!(std::io::stderr(), "[process {rank}] {text}"),
    };
}

/// A line on standard output. A reader that has seen enough (a closed pipe, as of `| head`) ends the program quietly;
/// any other failure is an error. Of several processes at one run only process 0 prints.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    if !speaks() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write to standard output"),
    }
}

/// An error and its causes on one line, without libtorch's C++ frames.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(|cause| first_line(&cause.to_string()).to_string()).collect::<Vec<_>>().join(": ")
}

/// The first line of an error or a panic; libtorch's debug form quotes its text with `\n` spelled out.
pub fn first_line(text: &str) -> &str {
    let text = text.split("\nException raised").next().unwrap_or(text);
    let text = text.lines().next().unwrap_or(text);
    text.split("\\nException raised").next().unwrap_or(text)
}

/// From now on a panic is said in one line as what it is: a defect of ours.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or("unknown");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        cry(format!("error: this is a defect of rankle, please report it{place}: {}", first_line(text)));
    }));
}

/// Progress over a known number of steps, on standard error.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    done: u64,
    said: Instant,
}

impl Bar {
    /// Starts at `done` of `total`.
    pub fn new(what: &str, total: u64, done: u64) -> Bar {
        let bar = (speaks() && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta} {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_string());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Bar { bar, what: what.into(), total, done, said: Instant::now() }
    }

    /// One step further.
    pub fn step(&mut self, by: u64) {
        self.done += by;
        match &self.bar {
            Some(bar) => bar.inc(by),
            // Where nobody watches, a line now and then shows that it lives.
            None if self.said.elapsed() > Duration::from_secs(20) => {
                say(format!("{}: {} of {}", self.what, self.done, self.total));
                self.said = Instant::now();
            }
            None => {}
        }
    }

    /// A line that stays: above the bar on a terminal, plainly elsewhere.
    pub fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
        self.said = Instant::now();
    }

    /// A few words beside the bar; nothing elsewhere.
    pub fn message(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
