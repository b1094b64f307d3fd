//! Runs and published weights as verbs open them: flags, data and networks of what stands in a folder.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::Paper;
use super::nets::{Nets, RUN, Stand, file_of, taken_for};
use crate::device::machine::Machine;
use crate::files;
use crate::hyper::{self, All, Hyper};
use crate::run::Run;
use crate::run::config::{BEGUN_FROM, Config, OF_TRAINING, typed_as};
use crate::say::note;
use crate::tasks::before::{OfStart, UNKNOWN, replaced};
use crate::weights::Files;

/// A run as its folder says it is, or published weights as if they were one.
pub(crate) struct Opened<P: Paper> {
    pub at: PathBuf,
    pub h: All<P::Hyper>,
    /// What its network knows of its data.
    pub shape: P::Shape,
    /// What weights it has.
    pub stand: Stand,
    pub(super) config: Config,
}

impl<P: Paper> Opened<P> {
    /// The run's flags with paths as they lead from here, to open its data with: see [`Config::placed`], [`known_start`]. What
    /// training alone needs is left out where it is gone, which is said.
    ///
    /// # Errors
    /// Where a flag does not take its path.
    pub fn placed(&self) -> Result<P::Hyper> {
        let mut placed = self.config.placed();
        for (flag, file) in placed.iter_mut().filter(|(flag, _)| OF_TRAINING.contains(&&***flag)) {
            let path = typed_as(file);
            if !Path::new(&path).exists() {
                note(format!("--{flag} {path} is gone: whom it left out of the training counts as trained on"));
                *file = Value::Null;
            }
        }
        known_start::<P>(&hyper::with(&self.h.own, &placed)?, &self.config)
    }

    /// Opens the run's own data: also where they lie by a path that was typed in another folder.
    ///
    /// # Errors
    /// As [`Paper::open`].
    pub fn data(&self) -> Result<P::Data> {
        let own = self.placed()?;
        self.say_read(&own);
        P::open(&own, self.h.usual.seed).map_err(|error| {
            if error.is::<OfStart>() {
                return error;
            }
            let from =
                self.config.folder.as_ref().map_or(String::new(), |folder| format!(", seen from {}", folder.display()));
            error.context(format!(
                "--data {}, as the run has it{from}: where it was moved, start in the folder from which it is there by that path, or put a link in its place; or give other --data",
                hyper::shown(&self.h.own, "data")
            ))
        })
    }

    /// Says of which paths not what is here is read, but what they led to in the folder where they were typed: of those that
    /// `own` has, as [`Opened::placed`] gives it.
    pub fn say_read(&self, own: &P::Hyper) {
        let read = hyper::flags(own);
        for (flag, then) in self.config.placed() {
            // Weights that a trained network began with are not read again.
            let is_read = read.get(&flag) == Some(&then) && (flag != "weights" || self.stand == Stand::Untrained);
            let typed = self.config.flags.get(&flag).filter(|typed| is_read && **typed != then).map(typed_as);
            if let Some(typed) = typed.filter(|typed| Path::new(typed).exists()) {
                note(format!(
                    "--{flag} {typed}: {}, with which the run was begun, is read, not what is here",
                    typed_as(&then)
                ));
            }
        }
    }

    pub fn nets<'a>(&'a self, run: &'a Run) -> Nets<'a, P> {
        let Opened { at, h, shape, stand, config } = self;
        let (loaded, read) = (RefCell::default(), Files::default());
        Nets { h, shape, run, at, config, stand: *stand, live: None, elsewhere: None, loaded, read }
    }
}

/// `h`, of the run that was `begun` so, to open its data with: without `--start` where what that names is not known to be what
/// the run began from, which is said.
///
/// # Errors
/// None that a run's own flags give.
pub(crate) fn known_start<P: Paper>(h: &P::Hyper, begun: &Config) -> Result<P::Hyper> {
    let file = P::start(h).ok().flatten();
    let other = file.as_deref().and_then(Path::parent).and_then(|at| replaced(at, &begun.begun_from()));
    let Some(why) = other else { return Ok(h.clone()) };
    note(format!("{UNKNOWN}: {why:#}"));
    hyper::with(h, &[(hyper::START.to_string(), Value::Null)].into_iter().collect())
}

/// A run from its folder; of several processes the first one reads.
pub(crate) fn opened<P: Paper>(at: &Path, mut machine: Machine) -> Result<(Opened<P>, Run)> {
    machine.world.agree(RUN, &at)?;
    let own = if machine.world.leads() { Some(Config::read(at)?) } else { None };
    let config = machine.world.told(&own)?.context("process 0 found no run")?;
    let (h, shape) = understood::<P>(at, &config)?;
    // What a run was trained without it is not measured on either.
    machine.skip_unreadable = config.machine.get("skip-unreadable").is_some_and(|skips| skips == true);
    let run = run_of(&h, machine);
    Ok((Opened { at: at.into(), h, shape, stand: Stand::Trained, config }, run))
}

/// Does `work` with the networks of the trained run at `at`: for a verb of the paper's own.
///
/// # Errors
/// Where there is no run of the paper, and those of `work`.
pub fn with_run<P: Paper>(at: &Path, machine: Machine, work: impl FnOnce(&Nets<'_, P>) -> Result<()>) -> Result<()> {
    let (opened, run) = opened::<P>(at, machine)?;
    work(&opened.nets(&run))
}

/// Published weights of the network of `h`: `data/runs/PAPER/NAME-OF-THE-FILE`.
pub(crate) fn opened_weights<P: Paper>(mut h: All<P::Hyper>, machine: Machine) -> Result<(Opened<P>, Run)> {
    let file = file_of(&h.own).and_then(|file| Some((file.file_stem()?.to_owned(), file)));
    let (name, file) = file.ok_or_else(|| hyper::usage(anyhow!("--weights: name a file")))?;
    // One name in all folders; what they were trained on is not known.
    let full = file.canonicalize().unwrap_or(file);
    let known = [("data", String::new()), ("weights", full.to_string_lossy().into_owned())];
    h.own = hyper::with(&h.own, &known.map(|(name, value)| (name.into(), value.into())).into_iter().collect())?;
    let (run, shape) = (run_of(&h, machine), P::Shape::default());
    let at = Path::new("data/runs").join(P::NAME).join(name);
    let mut config = config_of::<P>(&h, &shape, &run)?;
    // What cannot be read is said where it is loaded.
    config.machine.extend(files::hash(&full).ok().map(|hash| (BEGUN_FROM.into(), hash.into())));
    Ok((Opened { at, h, shape, stand: Stand::Published, config }, run))
}

/// The flags of the run at `at`, whose configuration is `config`, and what its network knows of its data.
///
/// # Errors
/// Where it is another paper's, a part, of another version, or was changed by hand into what no command line gives.
pub(crate) fn understood<P: Paper>(at: &Path, config: &Config) -> Result<(All<P::Hyper>, P::Shape)> {
    config.check_paper(at, P::NAME)?;
    let part = config.flags.contains_key("part");
    ensure!(!part, "{} is a part of the run in the folder above it: say that one", at.display());
    let other = || format!("{} is a run of another version of this program: train it again", at.display());
    let restore = || format!("{}: restore it, or train again", at.join("config.json").display());
    hyper::check_bounds::<All<P::Hyper>>(&config.flags).with_context(restore)?;
    let h: All<P::Hyper> = hyper::from_flags(&config.flags).with_context(other)?;
    ensure!(hyper::flags(&h) == config.flags, other());
    check_run::<P>(at, config)?;
    hyper::check(&h.own).with_context(restore)?;
    Ok((h, serde_json::from_value(config.data.clone()).with_context(other)?))
}

/// Errors where the folder `at` is no run of the paper: another one's, or published weights', which have no data.
pub(crate) fn check_run<P: Paper>(at: &Path, config: &Config) -> Result<()> {
    config.check_paper(at, P::NAME)?;
    let Ok(h) = hyper::from_flags::<All<P::Hyper>>(&config.flags) else { return Ok(()) };
    if let (Some(file), true) = (file_of(&h.own), P::PUBLISHED && hyper::shown(&h, "data").is_empty()) {
        let (at, file, network) = (at.display(), file.display(), taken_for::<P>(&h.own, &file));
        bail!(
            "{at} holds what published weights gave, and no run: say --weights {file} with {network} in place of --run"
        );
    }
    Ok(())
}

pub(crate) fn run_of<H: Hyper>(h: &All<H>, machine: Machine) -> Run {
    Run { machine, seed: h.usual.seed, amp: h.usual.amp }
}

pub(super) fn config_of<P: Paper>(h: &All<P::Hyper>, shape: &P::Shape, run: &Run) -> Result<Config> {
    Config::new(P::NAME, hyper::flags(h), serde_json::to_value(shape)?, &run.machine.name)
}
