//! Signals during a training: SIGTERM, SIGINT and SIGHUP let it finish its step and keep it, a second one ends it at
//! once; SIGUSR1 has it keep what there is and go on. Of several processes any may hear one, and all end together: no second
//! one counts, since a launcher repeats what a terminal has sent. Handlers set flags alone; the session looks at them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use tch::Tensor;

use crate::collectives::World;

/// What ends a training.
const ENDS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Why a training ended before its last step: no error, but an end of the work.
#[derive(Debug)]
pub struct Stopped {
    /// The signal's number.
    pub signal: u8,
    /// What is kept, and where.
    pub kept: String,
    /// Whether several processes ended.
    pub several: bool,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        let name = signal_hook::low_level::signal_name(self.signal.into()).unwrap_or("a signal");
        match self.several {
            true => write!(f, "stopped by {name}: {}; to go on, start all processes again as before", self.kept),
            false => write!(f, "stopped by {name}: {}; to go on: {command}", self.kept),
        }
    }
}

impl std::error::Error for Stopped {}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[derive(Debug, Default)]
struct Flags {
    /// The signal that asked for an end, 0 for none.
    stop: Arc<AtomicUsize>,
    save: Arc<AtomicBool>,
    /// Whether a signal ends the process as if nobody listened.
    at_once: Arc<AtomicBool>,
}

static FLAGS: OnceLock<Flags> = OnceLock::new();

/// Listens until it is dropped; then signals end the process as ever.
#[derive(Debug)]
pub struct Signals(&'static Flags);

impl Signals {
    /// Begins to listen; `alone`, or as one of several processes.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listen(alone: bool) -> Result<Signals> {
        if FLAGS.get().is_none() {
            let flags = Flags::default();
            let listen = || -> std::io::Result<()> {
                for signal in ENDS.into_iter().filter(|signal| !ignored(*signal)) {
                    flag::register_conditional_default(signal, flags.at_once.clone())?;
                    flag::register_usize(signal, flags.stop.clone(), signal as usize)?;
                    if alone {
                        flag::register(signal, flags.at_once.clone())?;
                    }
                }
                flag::register(SIGUSR1, flags.save.clone()).map(drop)
            };
            listen().context("cannot listen to signals")?;
            let _ = FLAGS.set(flags);
        }
        let flags = FLAGS.get().context("nobody listens to signals")?;
        flags.stop.store(0, Ordering::SeqCst);
        flags.at_once.store(false, Ordering::SeqCst);
        Ok(Signals(flags))
    }

    /// The signal that asked for an end.
    pub fn stop(&self) -> Option<u8> {
        u8::try_from(self.0.stop.load(Ordering::SeqCst)).ok().filter(|signal| *signal > 0)
    }

    /// Whether a checkpoint was asked for since this was last called.
    pub fn save(&self) -> bool {
        self.0.save.swap(false, Ordering::SeqCst)
    }

    /// [`Signals::stop`] and [`Signals::save`] of all processes, which ask together.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn of_all(&self, world: &World) -> Result<(Option<u8>, bool)> {
        if world.size() == 1 {
            return Ok((self.stop(), self.save()));
        }
        let mut own = ENDS.map(|signal| i64::from(self.stop() == u8::try_from(signal).ok())).to_vec();
        own.push(self.save().into());
        let all: Vec<i64> = Vec::try_from(world.sum(&Tensor::from_slice(&own))?)?;
        let stop = ENDS.iter().zip(&all).find(|(_, heard)| **heard > 0).map(|(signal, _)| *signal as u8);
        Ok((stop, all[ENDS.len()] > 0))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.0.at_once.store(true, Ordering::SeqCst);
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
