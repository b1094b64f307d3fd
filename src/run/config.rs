//! `config.json`: what a run was started with, and the check that a resumed run is the same run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::collectives::World;
use crate::files::{hash, text, write_atomic};
use crate::say::{foreign, note};

/// What a run was begun with; its `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The binary, e.g. `triplet-reid`.
    pub paper: String,
    /// Every flag that decides what the run computes, by its command-line name without dashes.
    pub flags: Map<String, Value>,
    /// What the network must know of the data it was built for, beside the flags: the classes, say.
    #[serde(default)]
    pub data: Value,
    /// Where it ran and with what: versions, a hash of the program (older runs have the commit of its source), device, threads.
    /// Not compared on resume.
    pub machine: Map<String, Value>,
    /// The command line of the first start,
    pub argv: Vec<String>,
    /// and the folder that it was typed in; none of an older version.
    #[serde(default)]
    pub folder: Option<PathBuf>,
}

/// Under which name the machine's table has what weights a run began with: a list of the hashes of their files; of published
/// weights the hash of their file, as text.
pub const BEGUN_FROM: &str = "begun-from-blake3";

/// Under which name it has, of a run that went on with other data (`--data-changed`), a line for each time.
const DATA_CHANGED: &str = "data-changed";

/// Under which name it has a hash of what `--score-every` scores.
const SCORED: &str = "scored-blake3";

/// Under which name it has the hash of the run's list of training photos; while that is replaced, of the new one too.
pub(crate) const PHOTOS: &str = "photos-blake3";

/// Flags that not every paper has, and that what serves all papers looks at: how many training people are held out to choose by,
pub(crate) const VALIDATION: &str = "validation";
/// which of several splits of the data it is,
pub(crate) const SPLIT: &str = "split";
/// which share of the training items is set aside,
pub(crate) const DEV: &str = "dev";
/// and the run that training starts from.
pub(crate) const START: &str = "start";

/// Flags, of this paper or that, that name a file or a folder.
pub(crate) const PATHS: [&str; 6] = ["data", "test", "exclude", "names", "weights", START];

/// Those of them whose lists say who leaves the training, which scores do without.
pub(crate) const OF_TRAINING: [&str; 2] = ["exclude", "names"];

/// Goes up with every change of a network, a loss or what is drawn that a run begun before would go on with.
const FORM: u64 = 3;

impl Config {
    /// The configuration of a run of `paper` with `flags` on a network built for `data`; `device` as text.
    pub fn new(paper: &str, flags: Map<String, Value>, data: Value, device: &str) -> Result<Config> {
        let Value::Object(machine) = json!({
            "rankle": env!("CARGO_PKG_VERSION"),
            "form": FORM,
            "program": program(),
            "tch": "0.24.0",
            "libtorch": "2.11",
            "device": device,
            "threads": tch::get_num_threads(),
        }) else {
            bail!("no machine");
        };
        Ok(Config {
            paper: paper.into(),
            flags,
            data,
            machine,
            argv: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            folder: std::env::current_dir().ok().filter(|folder| folder.to_str().is_some()),
        })
    }

    /// The path that `flag` was given, if it was.
    fn path(&self, flag: &str) -> Option<&str> {
        let given = self.flags.get(flag).filter(|_| PATHS.contains(&flag))?.as_str();
        given.filter(|text| !["", "drawn", "none"].contains(text))
    }

    /// What that leads to from the folder that it was typed in or, where nothing is there, from here.
    fn leads(&self, flag: &str) -> Option<PathBuf> {
        let typed = self.path(flag)?;
        let there = self.folder.as_deref().unwrap_or(Path::new("")).join(typed);
        there.canonicalize().or_else(|_| Path::new(typed).canonicalize()).ok()
    }

    /// Whether `flag` says the same here as in `other`: as it was typed, by what its path leads to, or by no weights.
    fn says(&self, flag: &str, other: &Config) -> bool {
        let (own, others) = (self.flags.get(flag), other.flags.get(flag));
        let no_weights =
            |value: Option<&Value>| flag == "weights" && value.is_some_and(|file| file.is_null() || file == "none");
        own == others
            || (no_weights(own) && no_weights(others))
            || self.leads(flag).is_some_and(|own| other.leads(flag) == Some(own))
    }

    /// Those flags of the run that name files and folders, as these are found from here: where the path leads elsewhere than in
    /// the folder that it was typed in, by what it led to there. Where that is gone it leads to what is here, which is said.
    pub fn placed(&self) -> Map<String, Value> {
        let full = |path: &Path| path.canonicalize().ok();
        let placed = |flag: &&str| {
            let typed = self.path(flag)?;
            let then = self.folder.as_deref().unwrap_or(Path::new("")).join(typed);
            let (here, there) = (full(Path::new(typed)), full(&then));
            if let (Some(here), None) = (&here, &there) {
                let (then, here) = (then.display(), here.display());
                note(format!(
                    "--{flag} {typed}: {then}, with which the run was begun, is gone: {here} is taken for it"
                ));
            }
            let same = there.is_none() || here == there;
            Some((flag.to_string(), if same { typed.into() } else { then.to_string_lossy().into() }))
        };
        PATHS.iter().filter_map(placed).collect()
    }

    /// The folder and configuration of the run at `at`; of a folder of runs, as a table's, of the one whose `flag` is `value`.
    ///
    /// # Errors
    /// As [`Config::read`]; where several runs have that value.
    pub fn read_with(at: &Path, flag: &str, value: &str) -> Result<(PathBuf, Config)> {
        let inside = std::fs::read_dir(at).into_iter().flatten().flatten().map(|entry| entry.path());
        let fits = |run: PathBuf| {
            let config = Config::read(&run).ok()?;
            (config.flags.get(flag).map(typed_as).as_deref() == Some(value)).then_some((run, config))
        };
        let mut runs: Vec<_> = inside.filter(|_| !at.join("config.json").exists()).filter_map(fits).collect();
        runs.sort_by(|a, b| a.0.cmp(&b.0));
        match &runs[..] {
            [] => Ok((at.into(), Config::read(at)?)),
            [(_, _)] => Ok(runs.remove(0)),
            [(first, _), ..] => {
                bail!("{} holds {} runs of --{flag} {value}: say one, as {}", at.display(), runs.len(), first.display())
            }
        }
    }

    /// The parts of the run that it lists; None where it has one part, or an older version wrote it.
    pub fn parts(&self) -> Option<Vec<&str>> {
        Some(self.machine.get("parts")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// The texts that the machine's table has under `name`.
    fn texts(&self, name: &str) -> Vec<&str> {
        self.machine.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether another version of the program began the run, which may have drawn otherwise.
    pub fn is_of_another_form(&self) -> bool {
        self.machine.get("form") != Some(&json!(FORM))
    }

    /// The hashes of the files of weights that the run began with; none of an older version.
    pub fn begun_from(&self) -> Vec<&str> {
        self.texts(BEGUN_FROM)
    }

    /// At which steps the run went on with other data, and what was other about them.
    pub fn changed(&self) -> Vec<&str> {
        self.texts(DATA_CHANGED)
    }

    /// Has the configuration of the run at `at` say one of them more.
    ///
    /// # Errors
    /// As [`Config::read`], and where it cannot be written.
    pub fn add_changed(at: &Path, line: String) -> Result<()> {
        let all: Vec<String> = Config::read(at)?.changed().into_iter().map(String::from).chain([line]).collect();
        Config::set(at, DATA_CHANGED, &all)
    }

    /// The hashes of which one is that of the run's list of training photos; none of an older version.
    pub fn photos(&self) -> Vec<&str> {
        self.texts(PHOTOS)
    }

    /// Has the configuration of the run at `at` say these.
    ///
    /// # Errors
    /// As [`Config::add_changed`].
    pub fn set_photos(at: &Path, all: &[String]) -> Result<()> {
        Config::set(at, PHOTOS, all)
    }

    /// Has the configuration of the run at `at` say by a hash which photos `--score-every` scores; that from before, if there
    /// was one.
    ///
    /// # Errors
    /// As [`Config::add_changed`].
    pub fn set_scored(at: &Path, hash: String) -> Result<Option<String>> {
        let before = Config::read(at)?.texts(SCORED).first().map(|before| before.to_string());
        Config::set(at, SCORED, &[hash])?;
        Ok(before)
    }

    fn set(at: &Path, name: &str, all: &[String]) -> Result<()> {
        let mut config = Config::read(at)?;
        let before = config.machine.insert(name.into(), json!(all));
        if before == Some(json!(all)) { Ok(()) } else { config.write(at) }
    }

    fn write(&self, run: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("a configuration is plain JSON")?;
        write_atomic(&run.join("config.json"), text.as_bytes())
    }

    /// Reads a run's configuration, which says inside that rankle wrote it; the error says how to make a run.
    pub fn read(run: &Path) -> Result<Config> {
        let path = run.join("config.json");
        super::folder::check_folder(run)?;
        ensure!(
            path.exists() || !super::folder::trained(run),
            "{} is missing, without which its checkpoints cannot be used: restore it, or train into another --run",
            path.display()
        );
        let text = text(&path).with_context(|| {
            let weights = |path: &Path| path.extension().is_some_and(|end| WEIGHTS.iter().any(|known| end == *known));
            let mut inside = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
            let file = Some(run.to_path_buf()).filter(|run| run.is_file()).or_else(|| inside.find(|at| weights(at)));
            match file.filter(|file| weights(file) && !path.exists()) {
                Some(file) => format!(
                    "no run at {}, but weights: say --weights {} and its network's flags in place of --run",
                    run.display(),
                    file.display()
                ),
                None => format!(
                    "no run at {} (no readable config.json there): train one first, or give its folder with --run",
                    run.display()
                ),
            }
        })?;
        let config = serde_json::from_str(&text).ok().filter(|config: &Config| config.machine.contains_key("rankle"));
        config.with_context(|| format!("{} is not a run's configuration: train into another --run", path.display()))
    }

    /// Paper, flags and data, as JSON: what makes a run another one.
    pub fn identity(&self) -> String {
        let Config { paper, flags, data, .. } = self;
        json!({"paper": paper, "flags": flags, "data": data}).to_string()
    }

    /// The configuration of a part; the part without a name is the run itself.
    pub fn part(&self, part: &str) -> Config {
        let mut config = self.clone();
        if !part.is_empty() {
            config.flags.insert("part".into(), part.into());
        }
        config
    }

    /// A hash of [`Config::identity`], of 16 digits.
    pub fn mark(&self) -> String {
        blake3::hash(self.identity().as_bytes()).to_hex()[..16].into()
    }

    /// Errors where the run at `at` is not one of `paper`.
    pub fn check_paper(&self, at: &Path, paper: &str) -> Result<()> {
        let own = foreign(&self.paper);
        ensure!(self.paper == paper, "{} is a run of {own}: say {own} instead", at.display());
        Ok(())
    }

    /// Writes it, or, where the folder has one already, checks that it is the same run, as [`Config::match_folder`] does.
    /// Returns whether there was one.
    pub fn write_or_match(&self, run: &Path) -> Result<bool> {
        let path = run.join("config.json");
        if !path.exists() {
            super::folder::check_ours(run)?;
            self.write(run)?;
            return Ok(false);
        }
        self.match_folder(run)?;
        Ok(true)
    }

    /// Errors where the configuration in `run` is another run's: another paper, flags or data; a flag that differs is
    /// named with both values, as they were typed. A path that leads to the same does not differ.
    pub fn match_folder(&self, run: &Path) -> Result<()> {
        let old = Config::read(run)?;
        if old.paper != self.paper {
            bail!("{} is a run of {}: choose another --run", run.display(), old.paper);
        }
        let names = old.flags.keys().chain(self.flags.keys().filter(|name| !old.flags.contains_key(*name)));
        let show = |value: Option<&Value>| match value {
            None => "not there".to_string(),
            Some(Value::Null) => "not given".into(),
            Some(value) => typed_as(value),
        };
        let changed: Vec<String> = names
            .filter(|name| !self.says(name, &old))
            .map(|name| format!("--{name} (was {}, now {})", show(old.flags.get(name)), show(self.flags.get(name))))
            .collect();
        if !changed.is_empty() {
            bail!(
                "{} was started with other flags: {}; give the same to go on, or another --run",
                run.display(),
                changed.join(", ")
            );
        }
        let placed = old.placed();
        let other = |flag: &str, then: &Value| old.flags.get(flag) != Some(then) && self.leads(flag) != old.leads(flag);
        if let Some((flag, then)) = placed.iter().find(|(flag, then)| other(flag, then)) {
            bail!(
                "--{flag} {}: from here that is not {}, which {} was begun with: start it again in the folder where it was begun, or choose another --run; where what it was begun with lies here now, move away what came into its place",
                show(old.flags.get(flag)),
                typed_as(then),
                run.display()
            );
        }
        // What an older version did not write is not compared.
        let alike = match (&old.data, &self.data) {
            (Value::Object(old), Value::Object(new)) => old.iter().all(|(name, value)| new.get(name) == Some(value)),
            (old, new) => old == new,
        };
        if !alike {
            bail!(
                "the data of {} are not what this run was started with ({} then, {} now): restore them, or choose another --run",
                run.display(),
                foreign(&old.data.to_string()),
                foreign(&self.data.to_string())
            );
        }
        let begun_from = [&old, self].map(|config| config.machine.get(BEGUN_FROM));
        ensure!(
            begun_from.contains(&None) || begun_from[0] == begun_from[1],
            "the weights that its flags name are not what {} was begun from (their run went on, or they were replaced): restore them, or train again into another --run",
            run.display()
        );
        // Within a version too: a form of none is an older one.
        if ["rankle", "form"].iter().any(|name| old.machine.get(*name) != self.machine.get(*name)) {
            let of = |config: &Config| {
                let known = ["rankle", "program", "commit"].iter().filter_map(|name| config.machine.get(*name));
                known.map(typed_as).collect::<Vec<_>>().join(", ")
            };
            note(format!(
                "this run was begun by another version of rankle ({}; now {}): where the network or the loss changed since, it goes on as another",
                of(&old),
                of(self)
            ));
        }
        // What changes the last digits, or which rows batch normalisation sees.
        let differs = |name: &&str| {
            let (then, now) = (old.machine.get(*name), self.machine.get(*name));
            then.is_some() && now.is_some() && then != now
        };
        for name in ["threads", "processes", "sync-batch-norm", "tf32", "skip-unreadable"].into_iter().filter(differs) {
            note(format!(
                "this run was started with {name} {} and goes on with {}: it will not equal an unbroken one to the last digit",
                show(old.machine.get(name)),
                show(self.machine.get(name))
            ));
        }
        Ok(())
    }
}

/// Errors, in every process, where one has other flags than process 0, and names them.
pub fn agree(world: &World, flags: &Map<String, Value>) -> Result<()> {
    if world.is_alone() {
        return Ok(());
    }
    let first = world.told(flags)?;
    let differs: Vec<i64> = first.iter().map(|(name, value)| i64::from(flags.get(name) != Some(value))).collect();
    let differs = Vec::<i64>::try_from(world.sum(&Tensor::from_slice(&differs))?)?;
    let named = first.keys().zip(differs).filter(|(_, count)| *count > 0);
    let own = |name: &String| typed_as(flags.get(name).unwrap_or(&Value::Null));
    let named: Vec<String> = named.map(|(name, _)| format!("--{name} (here {})", own(name))).collect();
    ensure!(named.is_empty(), "flags: give every process the same ones: they differ in {}", named.join(", "));
    Ok(())
}

/// How files of weights end.
const WEIGHTS: [&str; 4] = ["safetensors", "pt", "pth", "npz"];

/// A flag's value as it is typed.
pub fn typed_as(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        Value::Array(list) => list.iter().map(typed_as).collect::<Vec<_>>().join(","),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or(f64::NAN).to_string(),
        other => other.to_string(),
    }
}

/// What tells this program from every other build: the first 16 digits of the hash of the file that runs, also where another
/// has come into its place since; "unknown" where it cannot be read.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| hash(Path::new("/proc/self/exe")).map_or("unknown".into(), |hash| hash[..16].into()))
}
