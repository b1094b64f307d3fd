//! How far long work is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{foreign, readable, say, span, speaks, unsaid};

/// Progress over a known number of steps, on standard error.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    done: u64,
    said: Arc<Mutex<Instant>>,
    /// When it began, and with how much done.
    began: (Instant, u64),
    message: String,
}

/// How far one long step of a bar has come, said from any thread.
#[derive(Debug, Clone)]
pub struct Within {
    bar: Option<ProgressBar>,
    said: Arc<Mutex<Instant>>,
}

impl Within {
    /// `share`, 0 to 1, of what `name` names: beside the bar, where 1 ends it; in a line now and then elsewhere.
    pub fn at(&self, name: &str, share: f64) {
        let words = || format!("{name}: {:.0} %", 100. * share);
        match &self.bar {
            Some(bar) => bar.set_message(if share < 1. { foreign(&words()) } else { String::new() }),
            None if share < 1. => now_and_then(&self.said, words),
            None => {}
        }
    }
}

/// Where nobody watches, a line now and then shows that it lives.
fn now_and_then(said: &Mutex<Instant>, words: impl FnOnce() -> String) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if said.elapsed() > Duration::from_secs(20) {
        say(words());
        *said = Instant::now();
    }
}

impl Bar {
    /// Starts at `done` of `total`.
    pub fn new(what: &str, total: u64, done: u64) -> Bar {
        let bar = (speaks() && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {left}  {msg}") {
                // Before the first step nothing is known.
                let left = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                    let known = state.pos() > done && state.per_sec() > 0.;
                    let _ = if known { write!(to, "{:#} left", HumanDuration(state.eta())) } else { Ok(()) };
                };
                bar.set_style(style.with_key("left", left));
            }
            bar.set_prefix(foreign(what));
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        let said = Arc::new(Mutex::new(now));
        Bar { bar, what: what.into(), total, done, said, began: (now, done), message: String::new() }
    }

    /// Moves the bar on by this many of its units.
    pub fn step(&mut self, by: u64) {
        self.done += by;
        match &self.bar {
            Some(bar) => bar.inc(by),
            None => now_and_then(&self.said, || {
                let new = self.done - self.began.1;
                let pace = self.began.0.elapsed().as_secs_f64() / new as f64;
                let left = format!("{} left", span(pace * self.total.saturating_sub(self.done) as f64));
                let left = if new > 0 { &left } else { "" };
                let words = format!("{}: {} of {}  {left}  {}", self.what, self.done, self.total, self.message);
                words.trim_end().to_string()
            }),
        }
    }

    /// A line that stays: above the bar on a terminal, plainly elsewhere.
    pub fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(readable(text)),
            None => say(text),
        }
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A [`note`] that stays, as [`Bar::line`] has it.
    pub fn note(&mut self, text: &str) {
        unsaid(text).iter().for_each(|line| self.line(line));
    }

    /// For steps that take long.
    pub fn within(&self) -> Within {
        Within { bar: self.bar.clone(), said: self.said.clone() }
    }

    /// A few words beside the bar, or behind the lines in its place.
    pub fn message(&mut self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(foreign(&text)),
            None => self.message = text,
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
