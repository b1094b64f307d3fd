//! Who is still there. A process that ends early ends the others within seconds, with one line that says why, and a
//! restart goes on from the checkpoint.
//!
//! Every process leaves a beat in the store twice a second and reads the one word that matters: why the run is over.
//! Process 0 reads everybody's beats; the others read its. Collectives notice a closed socket sooner than any beat
//! does, but cannot say whose it was: they ask here ([`lost`]).

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tch::Device;

use super::env::Place;
use super::native::{Group, Store};
use crate::say;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(500);
/// A process that was not heard of for so long is gone, where nothing else is said (`--patience`).
pub const PATIENCE: Duration = Duration::from_secs(30);
/// At most so long, once a collective has failed.
const SILENCE_AFTER_FAILURE: Duration = Duration::from_secs(3);
/// So long the store stays for those who are not through yet.
const LAST: Duration = Duration::from_secs(60);
/// For the others to come, and for one collective.
const MEETING: f64 = 300.;
const COLLECTIVE: f64 = 1800.;
/// So long a process waits for others before it says for whom.
const QUIET: Duration = Duration::from_secs(4);
/// The key of the word that ends all.
const OVER: &str = "over";
/// The word of a process that came to its end.
const WELL: &str = "done";

/// This process, once it has met others.
struct Present {
    store: Store,
    rank: usize,
    size: usize,
    serves: bool,
    patience: Duration,
}

static PRESENT: Mutex<Option<Present>> = Mutex::new(None);
/// Whether there is one: who asks the store holds the other, for as long as the store keeps silent.
static MET: AtomicBool = AtomicBool::new(false);
/// Looks around that came to their end.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// Whether a collective has failed.
static FAILED: AtomicBool = AtomicBool::new(false);
/// Whether this process is on its way to its end; and whether it, or process 0, is through with its work.
static ENDING: AtomicBool = AtomicBool::new(false);
static THROUGH: AtomicBool = AtomicBool::new(false);
/// Whether another's end was said as the reason for this one's.
static SAID: AtomicBool = AtomicBool::new(false);

/// Lines of processes beside the first are not said, but for errors, which name their process.
pub(super) fn quiet(rank: usize) {
    say::speak_for(rank);
    super::native::quiet();
}

/// Meets the others and begins to watch over them.
pub(super) fn meet(place: &Place, device: Device, patience: Duration) -> Result<Group> {
    let Place { rank, size, host, port, serves, prefix, .. } = place;
    let cannot = |error: String| {
        anyhow!("process {rank} of {size} found no meeting at {host}:{port} (MASTER_ADDR, MASTER_PORT): {error}")
    };
    if *rank == 0 {
        say::say(format!("meeting {size} processes at {host}:{port}"));
    }
    let (who, at) = (format!("process {rank} of {size}"), (host.clone(), *port));
    let waiting = later(move || {
        // Looking a name up may hang.
        let place = at.clone();
        let why = match within(QUIET / 2, move || place.to_socket_addrs().err()) {
            Ok(None) | Err(RecvTimeoutError::Disconnected) => String::new(),
            Ok(Some(error)) => format!(", a name that leads nowhere ({error})"),
            Err(RecvTimeoutError::Timeout) => ", a name that nobody answers for so far".into(),
        };
        format!("{who} waits for process 0 at MASTER_ADDR {}{why}, MASTER_PORT {}", at.0, at.1)
    });
    let open = |serves: bool, prefix: &str| Store::open(host, *port, serves, prefix, MEETING).map_err(cannot);
    // torchrun keeps one store over all its restarts, which different machines count differently. Every process has
    // been started as often as every other, so that their own counts agree, and what earlier starts left stays apart.
    let starts = open(*serves, prefix)?;
    let start = starts.count(&format!("starts/{rank}")).map_err(cannot)?;
    // The server lives as long as its first connection.
    std::mem::forget(starts);
    drop(waiting);
    let prefix = format!("{prefix}/{start}");
    // Three connections, since a collective's setting-up may hold one for long: the group's, the watch's, the end's.
    let (first, watching, ending) = (open(false, &prefix)?, open(false, &prefix)?, open(false, &prefix)?);
    all_here(&first, *rank, *size, device)?;
    let (own, all, place) = (*rank, *size, format!("{host}:{port}"));
    let heard = place.clone();
    let threads: [Box<dyn FnOnce() + Send>; 2] = [
        Box::new(move || watch(&watching, own, all, patience, &place)),
        Box::new(move || watch_the_watch(patience, &heard)),
    ];
    for thread in threads {
        let builder = std::thread::Builder::new().name("watch".into());
        builder.spawn(thread).context("cannot start the thread that watches the other processes")?;
    }
    *PRESENT.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Present { store: ending, rank: *rank, size: *size, serves: *serves, patience });
    MET.store(true, Ordering::SeqCst);
    let cuda = match device {
        Device::Cuda(index) => Some(index),
        _ => None,
    };
    let group = Group::open(&first, &own_address(host, *port), *rank, *size, cuda, COLLECTIVE);
    let group = group.map_err(|error| lost(&error))?;
    std::mem::forget(first);
    Ok(group)
}

/// Does `work` on a thread of its own; where none can be had, it is dropped.
fn aside(work: impl FnOnce() + Send + 'static) {
    let _ = std::thread::Builder::new().spawn(work);
}

/// Says `line` in a while, unless what this gives is dropped before.
fn later(line: impl FnOnce() -> String + Send + 'static) -> Sender<()> {
    let (held, dropped) = std::sync::mpsc::channel();
    aside(move || {
        if dropped.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
            say::cry(line());
        }
    });
    held
}

/// What `ask`, which may hang, answers within `patience`: a meeting place that says nothing holds who asks it.
/// `Disconnected` where no thread can be had to ask on.
fn within<T: Send + 'static>(
    patience: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, RecvTimeoutError> {
    let (answer, answered) = std::sync::mpsc::channel();
    aside(move || drop(answer.send(ask())));
    answered.recv_timeout(patience)
}

/// Waits for all processes, and sees that all compute on the same kind of device: gloo and NCCL don't talk.
fn all_here(store: &Store, rank: usize, size: usize, device: Device) -> Result<()> {
    let own = if device.is_cuda() { "a GPU" } else { "a CPU" };
    let broken = |error: String| anyhow!("the meeting place broke off: {error}");
    store.set(&format!("here/{rank}"), own).map_err(broken)?;
    let (begun, mut said) = (Instant::now(), false);
    let mut missing: Vec<usize> = (0..size).collect();
    let names = |of: &[usize]| of.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    loop {
        let mut still = Vec::new();
        for &other in &missing {
            let theirs = store.get(&format!("here/{other}")).map_err(broken)?;
            if theirs.is_empty() {
                still.push(other);
            } else if theirs != own {
                bail!("this process computes on {own} and process {other} on {theirs}: say the same --device to all");
            }
        }
        if still.is_empty() {
            return Ok(());
        }
        missing = still;
        if begun.elapsed().as_secs_f64() > MEETING {
            bail!("of {size} processes (WORLD_SIZE) these did not come within {MEETING} s: {}", names(&missing));
        }
        if begun.elapsed() > QUIET && !said {
            said = true;
            say::say(format!("of {size} processes (WORLD_SIZE) these have not come yet: {}", names(&missing)));
        }
        std::thread::sleep(BEAT / 10);
    }
}

/// This machine's address on the way to `host`: what the machine's own name resolves to may be its loopback. Nothing
/// is sent. Empty where there is no way.
fn own_address(host: &str, port: u16) -> String {
    let towards = |from: &str| -> std::io::Result<String> {
        let socket = std::net::UdpSocket::bind(from)?;
        socket.connect((host, port))?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    towards("0.0.0.0:0").or_else(|_| towards("[::]:0")).unwrap_or_default()
}

/// The key of a process that is through with its work.
fn through(rank: usize) -> String {
    format!("through/{rank}")
}

/// Runs until the process ends.
fn watch(store: &Store, rank: usize, size: usize, patience: Duration, place: &str) {
    let mut heard: BTreeMap<usize, (String, Instant)> = BTreeMap::new();
    let others: Vec<usize> = if rank == 0 { (1..size).collect() } else { vec![0] };
    let mut last = Instant::now();
    for beat in 1_u64.. {
        if last.elapsed() > still(patience) {
            // It was this process that stood still (stopped, swapped out): the others get their time again.
            heard.clear();
        }
        last = Instant::now();
        let looked = look(store, (rank, size), beat, patience, &others, &mut heard);
        LOOKS.fetch_add(1, Ordering::SeqCst);
        if rank != 0 && store.get(&through(0)).is_ok_and(|word| word == WELL) {
            THROUGH.store(true, Ordering::SeqCst);
        }
        if let Err(why) = looked {
            // Where the first process is through, its store may go with it.
            if ENDING.load(Ordering::SeqCst) || (THROUGH.load(Ordering::SeqCst) && why.is_none()) {
                return;
            }
            end(&why.unwrap_or_else(|| format!("the meeting place {place} is gone, and process 0 or torchrun with it")));
        }
        std::thread::sleep(BEAT);
    }
}

/// A process that took so long over one beat stood still itself (stopped, swapped out), and cannot say that others did.
fn still(patience: Duration) -> Duration {
    (10 * BEAT).min(patience / 2)
}

/// Ends the process where no look around was finished for `patience`: a meeting place that says nothing, or whose machine
/// is out of reach, holds who asks it, also who wants to say why it ends.
fn watch_the_watch(patience: Duration, place: &str) {
    let (mut looks, mut since, mut last) = (0, Instant::now(), Instant::now());
    loop {
        let now = LOOKS.load(Ordering::SeqCst);
        if now != looks || last.elapsed() > still(patience) {
            (looks, since) = (now, Instant::now());
        }
        last = Instant::now();
        if since.elapsed() > patience && !THROUGH.load(Ordering::SeqCst) {
            if ENDING.load(Ordering::SeqCst) {
                leave_now(1);
            }
            let seconds = patience.as_secs();
            end(&format!(
                "the meeting place {place} said nothing for {seconds} s: process 0 or torchrun, or the way there, is gone"
            ));
        }
        std::thread::sleep(BEAT);
    }
}

/// One look around: an error is the end, with its reason, or without one where the store itself is gone.
fn look(
    store: &Store,
    (rank, size): (usize, usize),
    beat: u64,
    patience: Duration,
    others: &[usize],
    heard: &mut BTreeMap<usize, (String, Instant)>,
) -> std::result::Result<(), Option<String>> {
    let gone = |_| None;
    store.set(&format!("beat/{rank}"), &beat.to_string()).map_err(gone)?;
    let over = store.get(OVER).map_err(gone)?;
    if !over.is_empty() {
        return Err(Some(over));
    }
    let silence = if FAILED.load(Ordering::SeqCst) { SILENCE_AFTER_FAILURE.min(patience) } else { patience };
    for &other in others {
        let said = store.get(&format!("beat/{other}")).map_err(gone)?;
        let (last, when) = heard.entry(other).or_insert_with(|| (String::new(), Instant::now()));
        // Who is not here yet has a time limit of its own, in meeting.
        if said != *last || said.is_empty() {
            (*last, *when) = (said, Instant::now());
        } else if when.elapsed() > silence && store.get(&through(other)).map_err(gone)? != WELL {
            let why = format!("process {other} of {size} is gone (not heard of for {} s)", silence.as_secs());
            let _ = store.set(OVER, &why);
            return Err(Some(why));
        }
    }
    Ok(())
}

/// Ends this process for another's reason. Files are written whole or not at all, so any moment will do.
fn end(why: &str) -> ! {
    if SAID.swap(true, Ordering::SeqCst) {
        // The other watch says it, and ends this one too.
        std::thread::sleep(LAST);
    }
    say::cry(format!("error: {why}: start all processes again, and the run goes on from its last checkpoint"));
    leave_now(1)
}

/// Ends the process as it stands: destructors of libtorch's, with another thread inside a collective, may never come
/// to their end.
pub(super) fn leave_now(code: i32) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// The end of a program with `code`. A process that met others ends here: the group's own threads, NCCL's watchdog among
/// them, would outlive what they work on.
pub fn exit(code: u8) -> ExitCode {
    if MET.load(Ordering::SeqCst) {
        leave_now(code.into());
    }
    ExitCode::from(code)
}

/// What to make of a collective that failed: another process is gone, and the watch finds out which and why. Returns
/// only where it does not.
pub(super) fn lost(error: &str) -> anyhow::Error {
    FAILED.store(true, Ordering::SeqCst);
    let patience = PRESENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(PATIENCE, |own| own.patience);
    let asked = Instant::now();
    while asked.elapsed() < patience.min(PATIENCE) + 4 * BEAT {
        std::thread::sleep(BEAT / 5);
    }
    let present = PRESENT.lock().unwrap_or_else(PoisonError::into_inner);
    if present.as_ref().is_some_and(|present| present.store.get(OVER).is_ok_and(|over| over.is_empty())) {
        // All are still there: the fault is this process's own (memory, say).
        return anyhow!("a step together with the other processes failed: {error}");
    }
    anyhow!(
        "another process is gone or cannot be reached ({error}): start all processes again, and the run goes on from its last checkpoint"
    )
}

/// Says why this process ends early, to the reader and to the other processes. Where all end for one reason, one of
/// them says it.
pub fn fail(why: &str) {
    ENDING.store(true, Ordering::SeqCst);
    if !say::speaks() && heard_within(2 * BEAT) {
        return;
    }
    say::cry(format!("error: {why}"));
    leave(why);
}

/// Whether another process has ended all, now or within `patience`. A meeting place that says nothing has not said so.
fn heard_within(patience: Duration) -> bool {
    let heard = move || {
        let begun = Instant::now();
        loop {
            let over = match PRESENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                Some(present) => present.store.get(OVER).is_ok_and(|over| !over.is_empty()),
                None => false,
            };
            if over || begun.elapsed() > patience {
                return over;
            }
            std::thread::sleep(BEAT / 10);
        }
    };
    within(patience + BEAT, heard).unwrap_or(false)
}

/// This process ends early, for the reason `why`, which it has said: the others hear of it. With one process, nothing.
pub fn leave(why: &str) {
    ENDING.store(true, Ordering::SeqCst);
    if !MET.load(Ordering::SeqCst) {
        return;
    }
    let why = why.to_string();
    let tell = move || {
        let present = PRESENT.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(present) = present.as_ref() else { return false };
        if present.store.get(OVER).is_ok_and(|over| over.is_empty()) {
            let _ = present.store.set(OVER, &format!("process {} of {} ended: {why}", present.rank, present.size));
        }
        present.serves
    };
    if within(2 * QUIET, tell).unwrap_or(false) {
        // The store goes with this process: time for the others to read it.
        std::thread::sleep(4 * BEAT);
    }
}

/// This process is through with its work. Process 0 stays until all are, where it holds the store.
pub fn finish() {
    ENDING.store(true, Ordering::SeqCst);
    THROUGH.store(true, Ordering::SeqCst);
    if let Some(present) = PRESENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        let _ = present.store.set(&through(present.rank), WELL);
        let begun = Instant::now();
        let all = || (0..present.size).all(|rank| present.store.get(&through(rank)).is_ok_and(|word| word == WELL));
        while present.serves && begun.elapsed() < LAST && !all() {
            std::thread::sleep(BEAT / 5);
        }
    }
}
