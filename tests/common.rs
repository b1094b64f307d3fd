//! What several test files need: drawn inputs and comparisons.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use rand::Rng;
use rankle::datasets::drawn::photo;
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Kind, Tensor};
use tempfile::TempDir;

/// Numbers uniform in -1..1 at the address `(seed, 0, 0)`.
pub fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = rankle::seed::at(seed, 0, 0);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// `[rows, width]` f64.
pub fn matrix(seed: u64, rows: usize, width: usize) -> Tensor {
    Tensor::from_slice(&numbers(seed, rows * width)).view([rows as i64, width as i64])
}

/// A square or other f64 matrix as rows.
pub fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    Vec::<Vec<f64>>::try_from(x.to_kind(Kind::Double)).expect("a matrix")
}

/// A vector of whole numbers.
pub fn ints(x: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(x).expect("a vector")
}

/// A scalar.
pub fn value(x: &Tensor) -> f64 {
    x.double_value(&[])
}

/// Fails where two numbers differ by more than `tolerance` (of the larger one, where that is above 1).
#[track_caller]
pub fn close(ours: f64, theirs: f64, tolerance: f64) {
    let scale = theirs.abs().max(1.);
    assert!((ours - theirs).abs() <= tolerance * scale, "{ours} is not {theirs} (to {tolerance})");
}

/// As [`close`], for whole tensors.
#[track_caller]
pub fn all_close(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size());
    let worst = (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs();
    let worst = if worst.numel() == 0 { 0. } else { value(&worst.max()) };
    assert!(worst <= tolerance, "differ by {worst} (more than {tolerance})");
}

/// A picture without symmetry: x * 37 + y * 59 + c * 83 + 7 x y, modulo 256.
pub fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(std::array::from_fn(|c| ((x * 37 + y * 59 + c as u32 * 83 + x * y * 7) % 256) as u8))
    })
}

/// The file of an image.
pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("written");
    bytes.into_inner()
}

/// The file of a [`picture`].
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(&picture(width, height).into(), ImageFormat::Jpeg)
}

/// The squared distance of two rows.
pub fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The gradient of `f` at `x` by autograd, in x's kind.
pub fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = x.copy().detach().set_requires_grad(true);
    f(&leaf).backward();
    leaf.grad()
}

/// How many numbers an optimiser moves: the elements of all trainable variables.
pub fn trainable_parameters(vs: &VarStore) -> usize {
    vs.trainable_variables().iter().map(Tensor::numel).sum()
}

/// The error's only line.
#[track_caller]
pub fn line<T>(result: anyhow::Result<T>) -> String {
    let text = format!("{:#}", result.err().expect("an error"));
    assert!(!text.contains('\n'), "{text}");
    text
}

/// A path of the shared data, or nothing with a line that says so.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RANKLE_SHARED_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}

/// The path, whose folder is made.
pub fn made(path: PathBuf) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    path
}

/// Writes a file, whose folder is made.
pub fn put(path: PathBuf, text: impl AsRef<[u8]>) {
    fs::write(made(path), text).expect("written");
}

/// What a file of JSON holds.
#[track_caller]
pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Fails unless `text` has all of `words`, which stand between bars.
#[track_caller]
pub fn has(text: &str, words: &str) {
    for word in words.split('|') {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// What tests that run side by side make once, by a name: the first that asks makes it, the others wait for it.
pub struct Once<T>(Mutex<BTreeMap<String, Arc<OnceLock<T>>>>);

impl<T: Clone> Once<T> {
    pub const fn new() -> Once<T> {
        Once(Mutex::new(BTreeMap::new()))
    }

    pub fn of(&self, name: &str, make: impl FnOnce() -> T) -> T {
        let one = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.into()).or_default().clone();
        one.get_or_init(make).clone()
    }

    /// Forgets all of it.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// How a program ended and what it printed.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(command: &mut Command) -> Ended {
        command.output().expect("starts").into()
    }

    pub fn after(child: Child) -> Ended {
        child.wait_with_output().expect("ends").into()
    }

    /// Fails unless it ended well.
    #[track_caller]
    pub fn well(self) -> Ended {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Both, as a terminal shows them.
    pub fn all(&self) -> String {
        [&*self.out, &*self.err].concat()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ended { code: output.status.code(), out, err }
    }
}

/// What `work` gives on a thread of its own whose libtorch computes by so many threads, while tests beside it go on as they do.
pub fn by_threads<T: Send>(threads: i32, work: impl FnOnce() -> T + Send) -> T {
    let own = move || {
        // libtorch sets it at a thread's first question and not again; the number is one of each thread.
        tch::get_num_threads();
        // SAFETY: looks a function up by its name, and gives it OpenMP's own signature.
        unsafe {
            let set = libc::dlsym(libc::RTLD_DEFAULT, c"omp_set_num_threads".as_ptr());
            assert!(!set.is_null(), "libtorch runs on OpenMP");
            std::mem::transmute::<*mut libc::c_void, extern "C" fn(libc::c_int)>(set)(threads);
        }
        assert_eq!(tch::get_num_threads(), threads);
        work()
    };
    std::thread::scope(|scope| scope.spawn(own).join().expect("no panic"))
}

/// Sends a signal to a process that a test has started and not waited for.
pub fn send(process: u32, signal: i32) {
    // SAFETY: such a process's number is nobody else's.
    unsafe { libc::kill(process as i32, signal) };
}

/// One of the binaries, by its path where it was built; where the environment has `RANKLE_BINARIES`, the one of that name
/// in that folder (on a machine that only got binaries).
#[derive(Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    pub fn path(&self) -> PathBuf {
        let built = Path::new(self.0);
        let carried = std::env::var_os("RANKLE_BINARIES");
        carried.map_or(built.into(), |folder| Path::new(&folder).join(built.file_name().expect("a name")))
    }

    /// The command with these arguments; a backtrace on the user's side must not change what is printed.
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(self.path());
        command.args(args).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        // As many tests as cores run at once: a program with a thread a core of its own waits for the others at every step.
        command.env("OMP_NUM_THREADS", "1");
        // A shell's background job ignores some, and so would its children.
        // SAFETY: sets signals' answers, between fork and exec.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || {
                let _ = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].map(|signal| libc::signal(signal, libc::SIG_DFL));
                Ok(())
            });
        }
        command
    }

    /// Fails unless it ends well; what it printed.
    #[track_caller]
    pub fn good(&self, args: &[impl AsRef<OsStr> + Debug]) -> String {
        let ended = Ended::of(&mut self.command(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.all());
        ended.out
    }

    /// What `VERB --help` prints.
    pub fn help(&self, verb: &str) -> String {
        static KNOWN: Once<String> = Once::new();
        KNOWN.of(&format!("{} {verb}", self.0), || self.good(&[verb, "--help"]))
    }

    /// Fails unless it ends with `code` and one line `error: ...` that has all of `words`, and nothing like a backtrace.
    #[track_caller]
    pub fn bad(&self, args: &[impl AsRef<OsStr> + Debug], code: i32, words: &[&str]) -> String {
        let Ended { code: ended, err: text, .. } = Ended::of(&mut self.command(args));
        assert_eq!(ended, Some(code), "{args:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && text.trim_end().ends_with(errors[0]), "{args:?}: {text}");
        for word in words {
            assert!(errors[0].contains(word), "{args:?}: {word:?} is not in {}", errors[0]);
        }
        for word in ["panicked", "backtrace", "RUST_", "frame #", "libtorch_cpu.so", "defect"] {
            assert!(!text.contains(word), "{args:?}: {text}");
        }
        errors[0].to_string()
    }
}

/// A folder for a test of one binary, whose command lines are written `VERB @run FLAGS`: `@name` is a path in the folder.
/// Those that train have the usual flags too, but for those that a line gives itself or strikes out as `~--flag`.
pub struct Place {
    folder: TempDir,
    pub program: Program,
    usual: String,
}

impl Place {
    pub fn new(program: Program, usual: &str) -> Place {
        Place { folder: TempDir::new().expect("a temporary folder"), program, usual: usual.to_string() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().to_string()
    }

    /// The path of `name`, whose folder is made.
    pub fn made(&self, name: &str) -> PathBuf {
        made(self.path(name))
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        put(self.path(name), text);
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        json(&self.path(name))
    }

    /// One of the scores of a run.
    #[track_caller]
    pub fn score(&self, run: &str, name: &str) -> f64 {
        self.json(&format!("{run}/results.json"))["scores"][name].as_f64().unwrap_or_else(|| panic!("no {name}"))
    }

    /// The lines of a run's log.
    #[track_caller]
    pub fn log(&self, run: &str) -> Vec<Value> {
        self.read(&format!("{run}/log.jsonl")).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A drawn photo of a person, 32 x 64.
    pub fn photo(&self, name: &str, person: u64, camera: u64, shot: u64) {
        photo(5, person, camera, shot, 64, 32).save(self.made(name)).expect("saved");
    }

    /// Twelve drawn people in CUHK01's layout.
    pub fn cuhk01(&self, at: &str) {
        for (person, shot) in (1..13).flat_map(|person| (0..4).map(move |shot| (person, shot))) {
            self.photo(&format!("{at}/campus/{person:04}{:03}.png", shot + 1), person, 1 + shot / 2, shot % 2);
        }
    }

    pub fn args(&self, line: &str) -> Vec<String> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.get(1).is_some_and(|word| word.starts_with('@')) {
            words.insert(1, "--run");
        }
        if ["train", "reproduce"].contains(&words[0]) {
            let usual: Vec<&str> = self.usual.split_whitespace().collect();
            let given = |flag: &str| words.iter().any(|word| word.trim_start_matches('~') == flag);
            let more: Vec<&str> = usual.chunks(2).filter(|pair| !given(pair[0])).flatten().copied().collect();
            let at = if words.get(1) == Some(&"--run") { 3 } else { 1 };
            words.splice(at..at, more);
        }
        words.retain(|word| !word.starts_with('~'));
        words.iter().map(|word| word.strip_prefix('@').map_or(word.to_string(), |name| self.text(name))).collect()
    }

    pub fn command(&self, line: &str) -> Command {
        self.program.command(&self.args(line))
    }

    pub fn ends(&self, line: &str) -> Ended {
        Ended::of(&mut self.command(line))
    }

    /// As typed in `folder` of the place.
    pub fn ends_in(&self, folder: &str, line: &str) -> Ended {
        Ended::of(self.command(line).current_dir(self.path(folder)))
    }

    /// The first tensor of a file.
    #[track_caller]
    pub fn tensor(&self, name: &str) -> Tensor {
        rankle::weights::read(&self.path(name)).expect("readable").swap_remove(0).1
    }

    /// A copy of a folder of another place.
    pub fn copy(&self, from: &Path, name: &str) {
        for entry in fs::read_dir(from).expect("a folder").flatten() {
            let to = format!("{name}/{}", entry.file_name().to_string_lossy());
            match entry.path() {
                path if path.is_dir() => self.copy(&path, &to),
                path => drop(fs::copy(path, self.made(&to)).expect("copied")),
            }
        }
    }

    /// Fails unless it ends well; what it printed.
    #[track_caller]
    pub fn good(&self, line: &str) -> String {
        self.program.good(&self.args(line))
    }

    /// The JSON that it prints, and nothing else.
    #[track_caller]
    pub fn said(&self, line: &str) -> Value {
        serde_json::from_str(&self.good(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Fails unless each line ends with its code and one line of error that has all words, which stand between bars.
    #[track_caller]
    pub fn bad(&self, rows: &[(i32, &str, &str)]) {
        for (code, line, words) in rows {
            self.program.bad(&self.args(line), *code, &words.split('|').collect::<Vec<_>>());
        }
    }
}

/// Waits until `done`, at most `seconds`; whether it came to be.
pub fn within(seconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
