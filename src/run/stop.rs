//! Signals. The first of SIGTERM, SIGINT and SIGHUP lets a training finish the step in hand and keep it, as what looks at a
//! user's photos does a piece of them; a second one ends the process at once, and so does the first where no step is in hand,
//! with a line. SIGUSR1 has a training keep what there is and go on. Of several processes any may hear one, and all end
//! together; what follows within `ECHO` is no second one, since a launcher repeats what a terminal has sent.

use std::fmt;
use std::io::{Write, stderr};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::low_level::{exit, signal_name};
use tch::Tensor;

use crate::collectives::{World, leave};
use crate::say;

/// What ends a training.
const ENDS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];
/// So long what several processes hear is one signal, and what one does: `timeout` signals a program and then its group.
const ECHO: Duration = Duration::from_secs(2);
const ECHO_ALONE: Duration = Duration::from_millis(200);
/// A step that takes longer is said to be waited for; a last word is not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a training ended before its last step: no error, but an end of the work.
#[derive(Debug)]
pub struct Stopped {
    /// Which signal ended it, by its number.
    pub signal: u8,
    /// What is kept, and where.
    pub kept: String,
    /// Whether several processes ended.
    pub several: bool,
}

impl Stopped {
    /// Says it, whole: it ends with a command to type. Where standard error is gone, or takes nothing for a while (a
    /// terminal that stands still), it comes back all the same.
    pub fn say(&self) {
        if say::speaks() {
            let text = say::line(&self.to_string());
            let (said, heard) = channel::<()>();
            let speak = move || {
                let _ = writeln!(stderr(), "{text}");
                drop(said);
            };
            let _ = thread::Builder::new().spawn(speak);
            let _ = heard.recv_timeout(PATIENCE);
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = typed(std::env::args_os().map(|word| word.to_string_lossy().into_owned()));
        let (name, kept) = (name(self.signal), &self.kept);
        match self.several {
            true => write!(f, "stopped by {name}: {kept}; to go on, start all processes again as before"),
            false => write!(f, "stopped by {name}: {kept}; to go on: {command}"),
        }
    }
}

impl std::error::Error for Stopped {}

/// A command line as a shell takes it.
pub fn typed(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A path as a word of a command, which would take it for a flag where it begins with a dash.
pub fn as_argument(path: &Path) -> String {
    let text = path.display().to_string();
    if text.starts_with('-') { format!("./{text}") } else { text }
}

/// A word as a shell takes it, on one line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    let escaped = |c: char| match c {
        '\n' | '\r' | '\t' | '\'' | '\\' => c.escape_default().to_string(),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else if word.contains(char::is_control) {
        format!("$'{}'", word.chars().map(escaped).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn name(signal: u8) -> &'static str {
    signal_name(signal.into()).unwrap_or("a signal")
}

/// The signal that asked for an end, 0 for none.
static STOP: AtomicU8 = AtomicU8::new(0);
/// Whether a training knows of it.
static HEARD: AtomicBool = AtomicBool::new(false);
static SAVE: AtomicBool = AtomicBool::new(false);
/// Whether steps are taken.
static TRAINING: AtomicBool = AtomicBool::new(false);
/// Whether several processes wait for the last checkpoint. A launcher passes on the end of one as a signal to the others.
static LAST: AtomicBool = AtomicBool::new(false);

/// From now on signals are answered, as this module says.
pub fn answer() -> Result<()> {
    static ANSWERED: OnceLock<()> = OnceLock::new();
    if ANSWERED.set(()).is_err() {
        return Ok(());
    }
    let signals = ENDS.into_iter().filter(|signal| !ignored(*signal)).chain([SIGUSR1]);
    let mut signals = SignalsInfo::<signal_hook::iterator::exfiltrator::SignalOnly>::new(signals)
        .context("cannot listen to signals")?;
    let answers = move || {
        let mut first: Option<Instant> = None;
        for signal in &mut signals {
            let (signal, several) = (signal as u8, several());
            if i32::from(signal) == SIGUSR1 {
                SAVE.store(true, SeqCst);
            } else if let Some(first) = first {
                let echo = if several { ECHO } else { ECHO_ALONE };
                if first.elapsed() > echo && !(several && LAST.load(SeqCst)) {
                    let kept = "at once, with what was kept before".into();
                    Stopped { signal, kept, several }.say();
                    exit(128 + i32::from(signal));
                }
            } else {
                first = Some(Instant::now());
                STOP.store(signal, SeqCst);
                let training = TRAINING.load(SeqCst);
                // Beside this thread, which hears a second one.
                thread::spawn(move || {
                    if !training {
                        end(signal);
                    }
                    thread::sleep(PATIENCE);
                    say::say(format!(
                        "{}: what is in hand is done and kept first; a second signal ends at once",
                        name(signal)
                    ));
                });
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(answers).context("cannot listen to signals").map(drop)
}

fn several() -> bool {
    World::is_wanted().unwrap_or(false)
}

/// Ends the process where no step is in hand.
fn end(signal: u8) -> ! {
    let kept = "no step was in hand, and what is written stays".into();
    Stopped { signal, kept, several: several() }.say();
    leave(&format!("stopped by {}", name(signal)));
    exit(128 + i32::from(signal))
}

/// While it lives, steps are taken.
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Steps are taken from now on.
    pub fn listen() -> Result<Signals> {
        answer()?;
        TRAINING.store(true, SeqCst);
        Ok(Signals(()))
    }

    /// The signal that asked for an end.
    pub fn stop(&self) -> Option<u8> {
        let signal = Some(STOP.load(SeqCst)).filter(|signal| *signal > 0);
        HEARD.fetch_or(signal.is_some(), SeqCst);
        signal
    }

    /// Whether several processes wait for the last checkpoint from now on, which no second signal cuts short.
    pub fn last(&self, waits: bool) {
        LAST.store(waits, SeqCst);
    }

    /// The last look, where all went well: a signal that no step has heard ends the process.
    pub fn close(self) {
        drop(self);
        let signal = STOP.load(SeqCst);
        if signal > 0 && !HEARD.load(SeqCst) {
            end(signal);
        }
    }

    /// Whether a checkpoint was asked for since this was last called.
    pub fn save(&self) -> bool {
        SAVE.swap(false, SeqCst)
    }

    /// [`Signals::stop`] and [`Signals::save`] of all processes, which ask together, and process 0's `step`, how long one
    /// takes: by one clock all know when to ask again.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn of_all(&self, world: &World, step: Duration) -> Result<(Option<u8>, bool, Duration)> {
        if world.size() == 1 {
            return Ok((self.stop(), self.save(), step));
        }
        let heard = self.stop();
        let mut own = ENDS.map(|signal| i64::from(heard == u8::try_from(signal).ok())).to_vec();
        own.extend([self.save().into(), if world.leads() { step.as_micros() as i64 } else { 0 }]);
        let all: Vec<i64> = Vec::try_from(world.sum(&Tensor::from_slice(&own))?)?;
        let stop = ENDS.iter().zip(&all).find(|(_, heard)| **heard > 0).map(|(signal, _)| *signal as u8);
        Ok((stop, all[ENDS.len()] > 0, Duration::from_micros(all[ENDS.len() + 1] as u64)))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        TRAINING.store(false, SeqCst);
        LAST.store(false, SeqCst);
    }
}

/// Whether who started the process has it ignore a signal, as `nohup` does.
fn ignored(signal: i32) -> bool {
    // SAFETY: asks for the handler alone, into a struct of plain numbers.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}
