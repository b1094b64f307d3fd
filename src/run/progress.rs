//! A bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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

/// A line on standard error from any process; one beside process 0 is named.
pub fn cry(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = match PROCESS.load(Ordering::SeqCst) {
        0 => writeln!(std::io::stderr(), "{text}"),
        rank => writeln!(std::io::stderr(), "[process {rank}] {text}"),
    };
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
