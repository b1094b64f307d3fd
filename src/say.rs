//! What a program says: results on standard output, notes and errors on standard error, a bar on a terminal.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::io::{BufWriter, Error, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue};
use indicatif::{HumanCount, HumanDuration};

use crate::team;

mod bar;

pub use bar::{Bar, Within};

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
    unsaid(text).iter().for_each(say);
}

/// The line of a note, if it has not been said.
fn unsaid(text: impl std::fmt::Display) -> Option<String> {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("note: {text}");
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()).then_some(line)
}

unsafe extern "C" {
    /// `src/native/ops.cpp`.
    fn rankle_warnings(say: extern "C" fn(*const c_char));
}

/// From now on what libtorch warns of on this thread (and in the backward passes that it waits for) is a [`note`]: once,
/// where libtorch says some at every step.
pub fn warnings() {
    extern "C" fn heard(text: *const c_char) {
        // SAFETY: a text with a 0 at its end, which lives until this returns.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        note(format!("libtorch warns: {}", first_line(&text)));
    }
    // SAFETY: a function that lives as long as the program.
    unsafe { rankle_warnings(heard) }
}

/// Calls a function of `src/native`, which gives 0, or 1 after it wrote why into the room that it is told of.
///
/// # Errors
/// The first line of why.
pub(crate) fn said(call: impl FnOnce(*mut c_char, usize) -> i32) -> Result<(), String> {
    let mut text = [0 as c_char; 1024];
    if call(text.as_mut_ptr(), text.len()) == 0 {
        return Ok(());
    }
    // SAFETY: the callee ends what it writes with a 0 within the room it was told of.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
    Err(first_line(&text).to_string())
}

/// The most characters of a foreign text (a name, a value) that are shown, and of a whole message.
const FOREIGN: usize = 200;
const MESSAGE: usize = 2000;

/// Whether a terminal would obey a character, or draw others in another order than they stand in.
fn obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || turns
}

/// `text` with what a terminal would obey, or draw in another order than it stands in, spelled out; line breaks too, but
/// where `lines` are our own.
fn harmless(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) && !(lines && c == '\n') { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// `text` on one line, harmless to a terminal.
pub fn line(text: &str) -> String {
    harmless(text, false)
}

/// A foreign text as a part of a message: harmless, and its beginning and end alone where it is long.
pub fn foreign(text: &str) -> String {
    cut(&line(text), FOREIGN)
}

/// At most some `most` characters of `text`: its beginning and its end.
pub fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.into();
    }
    let (head, tail) = (text.chars().take(most / 2), text.chars().skip(count - most / 2));
    head.chain("[...]".chars()).chain(tail).collect()
}

/// The beginning of a long text, for a line beside which it stands whole elsewhere: some 160 characters of whole words.
pub fn brief(text: &str) -> String {
    const MOST: usize = 160;
    match text.char_indices().nth(MOST) {
        None => text.into(),
        Some((end, _)) => format!("{} [...]", text[..end].rsplit_once(' ').map_or(&text[..end], |(whole, _)| whole)),
    }
}

/// A message as a reader can take it in: one harmless line without endless words.
fn readable(text: &str) -> String {
    cut(&line(text).split(' ').map(|word| cut(word, FOREIGN)).collect::<Vec<_>>().join(" "), MESSAGE)
}

/// A line on standard error from any process; one beside process 0 is named.
pub fn cry(text: impl std::fmt::Display) {
    let text = readable(&text.to_string());
    let _ = match PROCESS.load(Ordering::SeqCst) {
        0 => writeln!(std::io::stderr(), "{text}"),
        rank => writeln!(std::io::stderr(), "[process {rank}] {text}"),
    };
}

/// Says in one line what clap has against a command line, with what was typed made harmless, or prints the help that was asked
/// for; and ends the program.
pub fn misused(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        let printed = heard(error.print().and_then(|()| std::io::stdout().flush()));
        std::process::exit(printed.map_or_else(
            |error| {
                cry(format!("error: {}", one_line(&error)));
                1
            },
            |()| 0,
        ));
    }
    let mut text = error.render().to_string();
    for word in std::env::args_os().skip(1) {
        let word = word.to_string_lossy();
        for part in [Some(&*word), word.split_once('=').map(|(_, value)| value)].into_iter().flatten() {
            if foreign(part) != part {
                text = text.replace(part, &foreign(part));
            }
        }
    }
    // Behind what is wrong stand the usage, where there is one, and where to look for help.
    let mut parts: Vec<&str> = text.trim_end().split("\n\n").collect();
    parts.truncate(parts.len().saturating_sub(1 + usize::from(error.get(ContextKind::Usage).is_some())).max(1));
    let flat = |part: &&str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = parts.iter().map(flat).collect::<Vec<_>>().join("; ");
    if matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.contains(';')) {
        text += " (lists have commas between their values)";
    }
    let hyphened = |word: &str| word.starts_with('-') && !word.starts_with("--");
    if matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(word)) if hyphened(word)) {
        text += " (a file whose name begins with a hyphen is typed ./-NAME, another such value --flag=-VALUE)";
    }
    let _ = writeln!(std::io::stderr(), "{} (--help says more)", cut(&line(&text), MESSAGE));
    std::process::exit(error.exit_code())
}

/// Whether standard output is for a machine alone.
static MACHINE: AtomicBool = AtomicBool::new(false);

/// From now on nothing but [`answer`] goes to standard output.
pub fn answer_alone() {
    MACHINE.store(true, Ordering::SeqCst);
}

/// What a verb found, as JSON on standard output where a machine is to read that ([`answer_alone`]); nothing elsewhere.
pub fn answer(value: &impl serde::Serialize) -> Result<()> {
    if !MACHINE.load(Ordering::SeqCst) || !speaks() {
        return Ok(());
    }
    let mut to = Numbered(BufWriter::new(std::io::stdout()));
    heard(
        serde_json::to_writer_pretty(&mut to, value)
            .map_err(Error::from)
            .and_then(|()| to.write_all(b"\n"))
            .and_then(|()| to.flush()),
    )
}

/// Writes on what a terminal would obey by number, as strings of JSON, where alone such characters stand, may have it. What it
/// is given at once is whole characters.
struct Numbered<W>(W);

impl<W: Write> Write for Numbered<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(Error::other)?;
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| obeyed(c) && c != '\n') {
            write!(self.0, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_all(rest.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// What another program is to read, as it stands, on standard output; see [`print()`].
pub fn raw(text: &str) -> Result<()> {
    if !speaks() {
        return Ok(());
    }
    heard(std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()))
}

/// What all errors of writing to standard output are: in the midst of writing a file, too, they are none of the file's.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct Unprinted;

/// What came of writing to standard output, whose reader may have seen enough: what is still to be written to files is.
fn heard(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context(Unprinted),
    }
}

/// One line on standard output where people read it, whatever names and paths are in it; these stay whole, since a user takes
/// them along. Where a reader has seen enough (a closed pipe, as of `| head`), work goes on; any other failure is an error. Of
/// several processes at one run only process 0 prints.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    print_lines(line(&text.to_string()))
}

/// [`print()`] of what has lines of its own, such as a table, and shows each [`foreign`] text in it as one.
pub fn print_lines(text: impl std::fmt::Display) -> Result<()> {
    if MACHINE.load(Ordering::SeqCst) {
        return Ok(());
    }
    raw(&(harmless(&text.to_string(), true) + "\n"))
}

/// `12936` as `12,936`.
pub fn thousands(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// The word that goes with so many.
pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// So many of `what`, a noun in the singular: `1 photo`, `12,936 people`.
pub fn count(number: usize, what: &str) -> String {
    let regular = || match what {
        _ if what.ends_with('y') => format!("{}ies", &what[..what.len() - 1]),
        _ if what.ends_with("ss") || what.ends_with("ch") => format!("{what}es"),
        _ => format!("{what}s"),
    };
    let many = what.strip_suffix("person").map_or_else(regular, |before| format!("{before}people"));
    format!("{} {}", thousands(number), plural(number, what, &many))
}

/// A span of time in words: "3 minutes".
pub fn span(seconds: f64) -> String {
    HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or_default()).to_string()
}

/// A time in seconds since 1970, as `2026-11-27 10:12 UTC`.
pub fn moment(seconds: f64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds as i64)
        .map_or("at an unknown time".into(), |at| format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()))
}

/// An error and its causes on one line, without libtorch's C++ frames, and without a cause that the one above it has quoted.
pub fn one_line(error: &anyhow::Error) -> String {
    // What could not be opened may be whole, whatever those above advise.
    let mut codes = error.chain().filter_map(|cause| cause.downcast_ref::<Error>()?.raw_os_error());
    if codes.any(|code| [libc::EMFILE, libc::ENFILE].contains(&code)) {
        return "too many files are open at once: raise the limit (ulimit -n) and start the same command again".into();
    }
    // A name in our own text may hold line breaks.
    let one = |text: String| if text.contains(FRAMES) { first_line(&text).to_string() } else { text };
    let mut texts: Vec<String> = error.chain().map(|cause| one(cause.to_string())).collect();
    texts.dedup_by(|cause, above| above.ends_with(cause.as_str()));
    let text = texts.join(": ");
    exhausted(&text).unwrap_or(text)
}

/// What begins libtorch's list of C++ frames.
const FRAMES: &str = "\nException raised";

/// What an error or a panic says, where it is that memory is not to be had: libtorch has no other sign of it.
fn exhausted(text: &str) -> Option<String> {
    const WORDS: [&str; 5] = [
        // oneDNN's, which needs memory for what it makes.
        "could not create a primitive",
        "DefaultCPUAllocator: can't allocate",
        "CUDA out of memory",
        "CUDA error: out of memory",
        "Storage size calculation overflowed",
    ];
    let at = WORDS.iter().find_map(|word| text.find(word))?;
    let asked = cut(first_line(&text[at..]), FOREIGN);
    Some(format!("out of memory: {asked}: make the batch, the images or the network smaller, or free memory"))
}

/// The first line of an error or a panic; libtorch's debug form quotes its text with `\n` spelled out.
pub fn first_line(text: &str) -> &str {
    let text = text.split(FRAMES).next().unwrap_or(text);
    let text = text.lines().next().unwrap_or(text);
    text.split("\\nException raised").next().unwrap_or(text)
}

/// From now on a panic is said in one line as what it is: a defect of ours; that of several threads at one work once.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or("?".into(), |place| format!("{}:{}", place.file(), place.line()));
        if !team::says_panic(&place) {
            return;
        }
        let text = panicked(panic.payload());
        let room = panic.payload().downcast_ref::<NoRoom>().map(|room| room.0.clone());
        if let Some(text) = room.or_else(|| exhausted(text)) {
            return cry(format!("error: {text}"));
        }
        cry(format!("error: this is a defect of rankle, please report it at {place}: {}", first_line(text)));
    }));
}

/// What a panic says that is no defect: more was asked for than this machine has. It is said as it stands.
#[derive(Debug)]
pub struct NoRoom(pub String);

/// What a panic says.
fn panicked(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().or(payload.downcast_ref::<NoRoom>().map(|room| &room.0));
    let text = text.map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// What `work` gives or, where it panics, what it panics with, of which nothing is said.
///
/// # Errors
/// The panic's text.
pub fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    caught_at(work).map_err(|(text, _)| text)
}

/// The same; behind the text is where in the source it panics, `FILE:LINE`, if [`panics`] was called.
pub(crate) fn caught_at<T>(work: impl FnOnce() -> T) -> std::result::Result<T, (String, Option<String>)> {
    let known = Arc::new(team::Panics { taken: true, ..Default::default() });
    let done = team::said_once(known.clone(), work);
    done.map_err(|payload| (panicked(&*payload).to_string(), known.place.get().cloned()))
}
