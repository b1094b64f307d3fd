//! A run as its folder says it is, or published weights as if they were one; and its networks, loaded when asked for.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tch::nn::VarStore;

use super::{Brings, Paper};
use crate::files::{self, Held};
use crate::hyper::{self, All, FlagValues, Heading, Hyper};
use crate::run::config::{BEGUN_FROM, Config, typed_as};
use crate::run::{
    Run,
    checkpoint::{self, Fingerprint},
    folder::{self, UNTRAINED, check_ours},
    history, session,
};
use crate::say::{note, one_line, say};
use crate::tasks::kept::Kept;
use crate::weights::{self, Files, Published};
use crate::{catalog, verbs};

/// What processes that were told different run folders are told.
pub(crate) const RUN: &str = "--run: give every process the same";

/// So long others of this run may take to write their scores or models, who are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network with its weights.
#[derive(Debug)]
pub struct Loaded<N> {
    /// The variables that hold its weights.
    pub store: VarStore,
    /// The network over these variables.
    pub net: N,
    /// How many steps it was trained for.
    pub step: u64,
}

/// What weights a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Those of the run's newest checkpoint.
    Trained,
    /// Those of its best one by scores while it trained.
    Best,
    /// Those that training found.
    Untrained,
    /// All of a file's, which others trained.
    Published,
}

impl Stand {
    /// Where scores and models belong that are the run's in the folder `at`.
    pub fn folder(self, at: PathBuf) -> PathBuf {
        match self {
            Stand::Untrained => at.join(UNTRAINED),
            Stand::Best => at.join(folder::BEST),
            Stand::Trained | Stand::Published => at,
        }
    }
}

/// The networks of a run, loaded when asked for.
pub struct Nets<'a, P: Paper> {
    /// The flags that the run was begun with.
    pub h: &'a All<P::Hyper>,
    /// What the network must know of its data.
    pub shape: &'a P::Shape,
    /// Where and how it computes, and by which seed.
    pub run: &'a Run,
    pub(super) at: &'a Path,
    pub(super) config: &'a Config,
    pub(super) stand: Stand,
    /// Weights that are just being trained, in place of all that stands in files.
    pub(super) live: Option<&'a VarStore>,
    /// What the data to score are, where they are not the run's own: the flags that name them.
    pub(crate) elsewhere: Option<FlagValues>,
    /// The checkpoints that were loaded, by the parts that they are of.
    pub(super) loaded: RefCell<Vec<(String, Fingerprint)>>,
    /// All files of weights that were loaded.
    pub(super) read: Files,
}

impl<P: Paper> Nets<'_, P> {
    /// The network of a part of the run ("" where a run has one): as it was trained, or as training found it.
    ///
    /// # Errors
    /// Where there is no checkpoint, or it is of other flags.
    pub fn part(&self, part: &str) -> Result<Loaded<P::Net>> {
        let mut store = self.run.store();
        let net = P::network(&self.h.own, self.shape, part, &store, self.run)?;
        let at = folder_of(self.at, part);
        let mut step = 0;
        match self.stand {
            _ if let Some(live) = self.live => store.copy(live)?,
            Stand::Trained | Stand::Best => {
                let best = self.stand == Stand::Best;
                let (known, file) = session::load(&at, &self.config.part(part), &mut store, best, self.run.world())?;
                step = known.step;
                self.read.borrow_mut().insert(file, known.hash.clone());
                self.loaded.borrow_mut().retain(|(loaded, _)| loaded != part);
                self.loaded.borrow_mut().push((part.to_string(), known));
            }
            Stand::Untrained => {
                let read = started::<P>(&hyper::with(&self.h.own, &self.config.placed())?, &store)?;
                // An older version did not keep them.
                let then = if part.is_empty() { Some(self.config.clone()) } else { Config::read(&at).ok() };
                let then = then.and_then(|config| config.machine.get(BEGUN_FROM).cloned());
                let (files, hashes): (Vec<_>, Vec<_>) =
                    read.iter().map(|(file, hash)| (file.display(), &**hash)).unzip();
                ensure!(
                    then.is_none_or(|then| then == json!(hashes)),
                    "{} is not what {} was begun from (its run went on, or it was replaced): restore it, or train again into another --run",
                    files.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
                    at.display()
                );
                self.read.borrow_mut().extend(read);
            }
            Stand::Published => {
                let read = from_outside::<P>(&self.h.own, &store, Published::whole)?;
                let changed = read.iter().find(|(_, hash)| self.content() != Some(hash));
                changed.map_or(Ok(()), |(file, _)| {
                    bail!("{} changed while it was read: say the same again", file.display())
                })?;
                self.read.borrow_mut().extend(read);
            }
        }
        Ok(Loaded { store, net, step })
    }

    /// The network of a run that has one.
    ///
    /// # Errors
    /// As [`Nets::part`].
    pub fn only(&self) -> Result<P::Net> {
        Ok(self.part("")?.net)
    }

    /// The hash of the file of published weights.
    pub(super) fn content(&self) -> Option<&str> {
        self.config.machine.get(BEGUN_FROM)?.as_str()
    }

    /// What holds the run's folder, and says in that of published weights what they are: to be called when there is something to
    /// put there.
    ///
    /// # Errors
    /// Where something else is there.
    pub(super) fn claim(&self) -> Result<impl Fn() -> Result<Held>> {
        let (folder, published) = (self.at, self.stand == Stand::Published);
        // An older version knew them by their path.
        let other = |old: Config| match (old.machine.get(BEGUN_FROM), self.content()) {
            (Some(then), Some(now)) => then.as_str() != Some(now),
            _ => old.flags.get("weights") != self.config.flags.get("weights"),
        };
        let free = move || {
            let taken =
                || Config::read(folder).is_ok_and(other) || checkpoint::exists(folder) || check_ours(folder).is_err();
            ensure!(
                !published || !taken(),
                "{} holds something else: move it, or give the weights' file another name",
                folder.display()
            );
            Ok(())
        };
        free()?;
        Ok(move || {
            let held = files::hold(folder, PATIENCE)?;
            // Others may have come while it was worked.
            free()?;
            if published {
                let text = serde_json::to_string_pretty(&self.config)?;
                files::write_atomic(&folder.join("config.json"), text.as_bytes())?;
            }
            Ok(held)
        })
    }

    /// Whose its scores are: [`Config::mark`] of a run; of published weights a hash of their content and the network's flags.
    pub(crate) fn mark(&self) -> String {
        let mut config = self.config.clone();
        if self.stand == Stand::Published {
            let network = hyper::under::<P::Hyper>(Heading::Network);
            config.flags.retain(|flag, _| network.contains(flag));
            config.flags.insert("weights".into(), json!(self.content()));
            config.data = Value::Null;
        }
        config.mark()
    }

    /// Where rows of photos are kept in `folder`: by all that they depend on, `how` photos are seen among it.
    pub(crate) fn kept(&self, folder: PathBuf, how: &P::Scoring) -> Kept {
        let seen = verbs::embedding::<P::Scoring>(hyper::flags(how));
        let on = json!([format!("{:?}", self.stand), hyper::flags(self.h), seen]);
        Kept { folder, on, read: self.read.clone(), detector: detector::<P>(how) }
    }

    /// What makes a file that a verb writes: program, command line, weights that were loaded for it and their hashes, flags.
    pub(crate) fn made(&self, how: &P::Scoring) -> Value {
        let (weights, hashes): (Vec<_>, Vec<_>) = self.read.borrow().clone().into_iter().unzip();
        // Of several parts lists.
        let one = |all: Value| match all.as_array().map(Vec::as_slice) {
            Some([]) => Value::Null,
            Some([one]) => one.clone(),
            _ => all,
        };
        let (detector, how) = (detector::<P>(how), verbs::embedding::<P::Scoring>(hyper::flags(how)));
        let words: Vec<String> = std::env::args().collect();
        let network: FlagValues = hyper::looked_at(self.h, Heading::Network).into_iter().collect();
        let program = format!("{} {}", P::NAME, env!("CARGO_PKG_VERSION"));
        json!({
            "program": program, "command": words, "weights": one(json!(weights)), "weights_blake3": one(json!(hashes)),
            "detector_blake3": detector.map(|(_, hash)| hash), "network": network, "scoring": how,
        })
    }

    /// Of a network that was trained on drawn data, that it knows nothing of what a user brings; None of others.
    pub fn drawn(&self) -> Option<String> {
        let what = if P::BRINGS == Brings::Images { "photos" } else { "videos" };
        let weights = if P::PUBLISHED { ", or give published weights by --weights and --net" } else { "" };
        (hyper::shown(self.h, "data") == "drawn").then(|| {
            format!(
                "this run was trained on drawn data: what it says of real {what} means nothing. Train one with train --data DIR{weights}"
            )
        })
    }

    /// Says [`Nets::drawn`] on standard error.
    pub fn say_drawn(&self) {
        self.drawn().iter().for_each(note);
    }

    /// The same networks as training found them.
    pub fn untrained(&self) -> Nets<'_, P> {
        let elsewhere = self.elsewhere.clone();
        let (loaded, read) = (RefCell::default(), Files::default());
        Nets { stand: Stand::Untrained, loaded, read, elsewhere, ..*self }
    }

    /// The names of the parts of the run, trained or not; where an older version began it, of those with a log.
    pub fn parts(&self) -> Vec<String> {
        match self.config.parts() {
            Some(listed) => listed.into_iter().map(String::from).collect(),
            None => {
                let begun = history::parts(self.at).unwrap_or_default().into_iter();
                begun.filter_map(|(_, at)| Some(at.file_name()?.to_str()?.into())).collect()
            }
        }
    }

    /// Whether a part of the run has been trained, at least in part.
    pub fn has(&self, part: &str) -> bool {
        checkpoint::exists(&folder_of(self.at, part))
    }
}

/// The file of weights that the flags name.
pub(crate) fn file_of(h: &impl Serialize) -> Option<PathBuf> {
    hyper::file(hyper::flags(h).get("weights").and_then(Value::as_str)).map(PathBuf::from)
}

/// The file of weights of what finds the faces that `how` asks for, and its hash; what cannot be read is said where it is loaded.
pub(super) fn detector<P: Paper>(how: &P::Scoring) -> Option<(PathBuf, String)> {
    let file = P::detector(how)?;
    let hash = files::hash(&file).ok()?;
    Some((file, hash))
}

/// Files that were loaded, and the hashes of what was.
type Read = Vec<(PathBuf, String)>;

/// The network of `store` from the file that `--weights` names, if it does.
fn from_outside<P: Paper>(h: &P::Hyper, store: &VarStore, fit: fn(Published) -> Published) -> Result<Read> {
    let (Some(published), Some(file)) = (h.weights().published(), file_of(h)) else { return Ok(Vec::new()) };
    let started = files::hashed(&file, || weights::start(store, &file, &fit(published)));
    // Of a network whose file has the first layers alone no other was meant.
    let taken = |error: anyhow::Error| match P::PUBLISHED {
        true => anyhow!("{}; taken for {}", one_line(&error), taken_for::<P>(h, &file)),
        false => error,
    };
    let (said, hash) = started.map_err(taken)?;
    say(said);
    Ok(vec![(file, hash)])
}

/// The network of `store` as training finds it, but for what it takes from its data.
pub(super) fn started<P: Paper>(h: &P::Hyper, store: &VarStore) -> Result<Read> {
    let mut read = Vec::new();
    if let Some(file) = P::start(h)? {
        checkpoint::check_start(&file)?;
        let (said, hash) = files::hashed(&file, || weights::start(store, &file, &Published::CHECKPOINT))?;
        say(said);
        read.push((file, hash));
    }
    read.extend(from_outside::<P>(h, store, |published| published)?);
    Ok(read)
}

/// Which network a file was taken for, and which one it is of where its name says it.
pub(super) fn taken_for<P: Paper>(h: &P::Hyper, file: &Path) -> String {
    let (ours, usual) = (hyper::flags(h), hyper::blank::<P::Hyper>().map(|usual| hyper::flags(&usual)));
    let network = hyper::under::<P::Hyper>(Heading::Network);
    let axis = |flag: &str| P::Hyper::AXES.contains(&flag) && network.iter().any(|known| known == flag);
    let shown = |(flag, value): (&String, &Value)| {
        let usual = usual.as_ref().is_ok_and(|usual| usual.get(flag) == Some(value));
        format!("--{flag} {}{}", typed_as(value), if usual { " (the default)" } else { "" })
    };
    let taken: Vec<String> = ours.iter().filter(|(flag, _)| axis(flag)).map(shown).collect();
    let own = catalog::name_of(file);
    let fetched = |h: &P::Hyper| h.weights().published().map_or(&[][..], |published| published.fetch);
    let knows = |h: &P::Hyper| fetched(h).iter().any(|name| own == Some(name));
    let fits = if knows(h) { Vec::new() } else { hyper::choices(h, axis, knows) };
    let fits = fits.first().map_or(String::new(), |fits| format!("; a file of this name is for {fits}"));
    format!("{}{fits}", taken.join(" "))
}

/// Where a part of the run at `at` lies: in a subfolder, or, without a name, in the run's own folder.
pub(super) fn folder_of(at: &Path, part: &str) -> PathBuf {
    if part.is_empty() { at.to_path_buf() } else { at.join(part) }
}
