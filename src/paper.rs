//! What a paper is: flags, data, networks, training, scores, and the numbers that it printed; and how such a run is
//! trained, scored and exported.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn::VarStore};

use crate::claims::{self, Claims, Theirs};
use crate::datasets::Photo;
use crate::deploy::About;
use crate::device::machine::Machine;
use crate::distance::Metric;
use crate::hyper::{self, All, Flags, Hyper};
use crate::models::Network;
use crate::optim::Rule;
use crate::report::{Report, Table};
use crate::results::{self, Results};
use crate::run::config::{self, Config, typed_as};
use crate::run::{
    Run, checkpoint,
    folder::{self, BEFORE, NEWEST, REPORT, RESULTS, UNTRAINED, check_free, check_ours},
    photos::{Photos, content},
    scores::{BEST, Scores},
    session::{self, Session, Tried},
};
use crate::say::{note, print, say};
use crate::study::Study;
use crate::tasks::{
    Data, Rows,
    brought::{Brought, Use},
    pairs, people,
};
use crate::transform::{Recipe, TestViews};
use crate::weights::{self, Published};
use crate::{catalog, export, files, older, outputs, verbs};

pub use crate::tasks::{Evaluation, Own};

/// What a paper's file begins with: `use rankle::paper::prelude::*`.
pub mod prelude {
    pub use anyhow::{Context, Result, anyhow, ensure};
    pub use clap::{Args, FromArgMatches, ValueEnum};
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
    pub use tch::{Kind, Tensor, nn::VarStore};

    pub use super::{Departure, Evaluation, Loaded, Nets, NoScoring, Own, Paper, Plan, Sees, Unlike};
    pub use crate::claims::{Claims, Column, Theirs};
    pub use crate::deploy::About;
    pub use crate::distance::Metric;
    pub use crate::hyper::{self, Hyper, Idle, Size, Weights, as_usual, count, positive, shown, when, within};
    pub use crate::losses::Tally;
    pub use crate::models::{Network, channels_last, layers::Scope};
    pub use crate::optim::Rule;
    pub use crate::run::session::{Done, Session};
    pub use crate::run::{Run, stats, watch::Reading};
    pub use crate::study::{Grid, Sheet, Study};
    pub use crate::tasks::{Brought, Rows, Use};
    pub use crate::transform::{Augment, Recipe, TestViews};
    pub use crate::weights::Published;
}

/// What a training is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Steps in all.
    pub steps: u64,
    /// The rule of descent.
    pub rule: Rule,
    /// L2 weight decay.
    pub weight_decay: f64,
}

/// A network with its weights.
#[derive(Debug)]
pub struct Loaded<N> {
    /// Holds the weights.
    pub store: VarStore,
    /// The network.
    pub net: N,
    /// Steps trained.
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
    /// The run's flags.
    pub h: &'a All<P::Hyper>,
    /// What the network must know of its data.
    pub shape: &'a P::Shape,
    /// How it computes.
    pub run: &'a Run,
    at: &'a Path,
    config: &'a Config,
    stand: Stand,
    /// Weights that are just being trained, in place of all that stands in files.
    live: Option<&'a VarStore>,
    /// What the data to score are, where they are not the run's own: the flags that name them.
    pub(crate) elsewhere: Option<Flags>,
    steps: RefCell<Vec<(String, u64)>>,
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
        let step = match self.stand {
            _ if let Some(live) = self.live => store.copy(live).map(|()| 0)?,
            Stand::Trained | Stand::Best => {
                let best = self.stand == Stand::Best;
                session::load(&at, &part_config(self.config, part), &mut store, best, self.run.world())?
            }
            Stand::Untrained => started::<P>(&self.h.own, &store).map(|()| 0)?,
            Stand::Published => from_outside::<P>(&self.h.own, &store, Published::whole).map(|()| 0)?,
        };
        self.steps.borrow_mut().push((part.to_string(), step));
        Ok(Loaded { store, net, step })
    }

    /// The network of a run that has one.
    ///
    /// # Errors
    /// As [`Nets::part`].
    pub fn only(&self) -> Result<P::Net> {
        Ok(self.part("")?.net)
    }

    /// Published weights say in their folder what they are.
    ///
    /// # Errors
    /// Where something else is there.
    fn claim(&self) -> Result<()> {
        let folder = self.at;
        if self.stand != Stand::Published {
            return Ok(());
        }
        let old = Config::read(folder).ok();
        let same = old.as_ref().is_none_or(|old| old.flags.get("weights") == self.config.flags.get("weights"));
        let ours = same && !checkpoint::exists(folder) && check_ours(folder).is_ok();
        ensure!(ours, "{} holds something else: move it, or give the weights' file another name", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| files::cannot(folder, error))?;
        files::write_atomic(&folder.join("config.json"), serde_json::to_string_pretty(&self.config)?.as_bytes())
    }

    /// What makes a file that a verb writes: program, command line, weights and their hash, flags; and a hash of what an
    /// embedding depends on, `how` photos are seen among it.
    ///
    /// # Errors
    /// Where the weights' file cannot be read.
    pub(crate) fn made(&self, how: &P::Scoring) -> Result<(Value, String)> {
        let made: &[&str] = match self.stand {
            Stand::Trained => &[NEWEST, BEFORE],
            Stand::Best => &[BEST],
            _ => &[],
        };
        let made = made.iter().map(|name| self.at.join(name)).find(|file| file.exists());
        let file = made.or_else(|| file_of(&self.h.own));
        let weights = file.as_ref().map(|file| files::read(file).map_err(|error| weights::unread(file, error)));
        let hash = blake3::hash(&weights.transpose()?.unwrap_or_default()).to_hex();
        let how = verbs::embedding::<P::Scoring>(hyper::flags(how));
        let known = json!([hash.as_str(), format!("{:?}", self.stand), hyper::flags(self.h), how]);
        let words: Vec<String> = std::env::args().collect();
        let network: Flags = hyper::looked_at(self.h, "Network").into_iter().collect();
        let program = format!("{} {}", P::NAME, env!("CARGO_PKG_VERSION"));
        let made = json!({"program": program, "command": words, "weights": file, "weights_blake3": hash.as_str(), "network": network, "scoring": how});
        Ok((made, blake3::hash(known.to_string().as_bytes()).to_hex().to_string()))
    }

    /// The same networks as training found them.
    pub fn untrained(&self) -> Nets<'_, P> {
        let elsewhere = self.elsewhere.clone();
        Nets { stand: Stand::Untrained, steps: RefCell::default(), elsewhere, ..*self }
    }

    /// Whether a part of the run has been trained, at least in part.
    pub fn has(&self, part: &str) -> bool {
        checkpoint::exists(&folder_of(self.at, part))
    }
}

/// No flags of scoring.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct NoScoring {}

/// A sentence about what departs from a paper, and the runs for which it holds.
pub type Departure<H> = (fn(&H) -> bool, &'static str);

/// Why runs cannot stand beside a paper, and which, on which data.
pub type Unlike<P> = (fn(&<P as Paper>::Hyper, &<P as Paper>::Data) -> bool, &'static str);

/// How a network that embeds photos sees them.
pub type Sees<P> = fn(&<P as Paper>::Hyper, &<P as Paper>::Scoring) -> (Recipe, TestViews);

/// A paper.
pub trait Paper: Sized + 'static {
    /// The binary.
    const NAME: &'static str;
    /// Authors, title, number.
    const CITATION: &'static str;
    /// The lines below `--help`.
    const START: &'static str = "";
    /// The flag of `embed` that names what the user brings.
    const BRINGS: &'static str = "images";
    /// Flags under "Data" that say how a photo is seen, which `embed` takes too: the run's where they are not given.
    const SEEN: &'static [&'static str] = &[];
    /// Verbs that do with a network what it is for.
    const USES: &'static [Use] = &[];
    /// Verbs beside those of every paper.
    const OWN: &'static [Own] = &[];
    /// What `evaluate --baselines` scores on `--data` instead of a run, if there is such a thing, and the flags of scoring
    /// that it looks at.
    const BASELINES: Option<(&'static str, &'static [&'static str])> = None;
    /// Flags of training.
    type Hyper: Hyper;
    /// Flags of scoring, of `embed` and of `export`.
    type Scoring: Args + Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
    /// The data set.
    type Data: Data;
    /// What the network is built for beside the flags: of most papers nothing, `()`.
    type Shape: Serialize + DeserializeOwned + PartialEq + Default;
    /// The network.
    type Net: Network;
    /// How its network sees photos, where it is one that embeds them: `embed` and `about` follow from it. Else they are the
    /// paper's own.
    const SEES: Option<Sees<Self>> = None;
    /// How embeddings are compared.
    const METRIC: fn(&Self::Hyper) -> Metric = |_| Metric::SquaredEuclidean;
    /// The scores that count, what their names begin with, the first first: by that one the best checkpoint is known.
    const COUNT: &'static [&'static str] = &[];
    /// What departs from the paper, or fills a gap in it, in all runs; what flags change is added.
    const DEPARTURES: &'static [&'static str] = &[];
    /// The same of some runs.
    const DEPARTURES_WHERE: &'static [Departure<Self::Hyper>] = &[];
    /// Which runs on which data cannot stand beside the paper whatever their numbers, and why.
    const UNLIKE: &'static [Unlike<Self>] = &[];
    /// The paper's numbers.
    const CLAIMS: &'static [Claims<Self::Hyper, Self::Scoring>] = &[];
    /// Whether a file for `--weights` that has all of a network is scored, embedded with and exported in place of a run.
    const PUBLISHED: bool = false;
    /// Published weights whose scores are known.
    const THEIRS: &'static [Theirs<Self::Scoring>] = &[];
    /// The paper's tables that compare runs.
    const STUDIES: &'static [Study<Self::Hyper, Self::Scoring>] = &[];

    /// Sets what the flags leave to the machine: as in `begun`, where a run of those flags is gone on with.
    fn settle(h: &mut Self::Hyper, begun: Option<Self::Hyper>, run: &Run) {
        let _ = (h, begun, run);
    }
    /// Opens the data of a run: lists, no pixels.
    fn open(h: &Self::Hyper, seed: u64) -> Result<Self::Data>;
    /// Opens other data to score a run on, whose own flags are `own`.
    fn elsewhere(own: &Self::Hyper, other: &Self::Hyper, seed: u64) -> Result<Self::Data> {
        let _ = own;
        Self::open(other, seed)
    }
    /// What the network must know of the data; errors where the flags do not fit them.
    fn shape(h: &Self::Hyper, data: &Self::Data) -> Result<Self::Shape> {
        let _ = (h, data);
        Ok(Self::Shape::default())
    }
    /// The trainings that a run consists of, by the names of their subfolders; one without a name is the run itself.
    fn parts(h: &Self::Hyper, data: &Self::Data) -> Result<Vec<String>> {
        let _ = (h, data);
        Ok(vec![String::new()])
    }
    /// Steps, rule of descent, weight decay of a part.
    fn plan(h: &Self::Hyper, data: &Self::Data, part: &str, run: &Run) -> Result<Plan>;
    /// The network as the seed makes it.
    fn network(h: &Self::Hyper, shape: &Self::Shape, part: &str, store: &VarStore, run: &Run) -> Result<Self::Net>;
    /// What training finds beside the file of `--weights`.
    fn start(h: &Self::Hyper, store: &VarStore) -> Result<()> {
        let _ = (h, store);
        Ok(())
    }
    /// The same of the training data.
    fn start_on(h: &Self::Hyper, data: &Self::Data, store: &VarStore) -> Result<()> {
        let _ = (h, data, store);
        Ok(())
    }
    /// The training loop. The session holds weights and optimiser, logs, saves, and begins where the run was interrupted.
    fn train(
        h: &Self::Hyper,
        data: &Self::Data,
        part: &str,
        net: &Self::Net,
        session: &mut Session,
        run: &Run,
    ) -> Result<()>;
    /// Why these flags cannot score a run of `h`, if they cannot; said before any work.
    fn check_scoring(h: &Self::Hyper, how: &Self::Scoring) -> Result<()> {
        let _ = (h, how);
        Ok(())
    }
    /// Whether what such a run is scored on may choose a checkpoint, since other data are left to score that on; else what to
    /// do about it.
    fn chooses(h: &Self::Hyper) -> std::result::Result<(), &'static str> {
        match hyper::flags(h).get("validation").map(|people| people.as_u64() > Some(0)) {
            Some(true) => Ok(()),
            Some(false) => Err("say --validation N too: training people who are held out to choose by"),
            None => Err(
                "its scores are the test's, and a checkpoint that they chose would have none that is fair: leave it out",
            ),
        }
    }
    /// Scores a run.
    fn evaluate(
        h: &Self::Hyper,
        data: &Self::Data,
        nets: &Nets<'_, Self>,
        how: &Self::Scoring,
        run: &Run,
    ) -> Result<Evaluation>;
    /// What a run has to beat, as tables: for the end of `reproduce`.
    fn rivals(
        h: &Self::Hyper,
        data: &Self::Data,
        nets: &Nets<'_, Self>,
        found: &Evaluation,
        how: &Self::Scoring,
        run: &Run,
    ) -> Result<Vec<(String, Table)>> {
        let _ = (h, data, nets, found, how, run);
        Ok(Vec::new())
    }
    /// What stands behind [`Paper::BASELINES`], as tables.
    fn baselines(data: &Self::Data, how: &Self::Scoring) -> Result<Vec<(String, Table)>> {
        let _ = (data, how);
        Ok(Vec::new())
    }
    /// Rows for what a user brings.
    fn embed(h: &Self::Hyper, nets: &Nets<'_, Self>, of: &Brought, how: &Self::Scoring, run: &Run) -> Result<Rows> {
        let (recipe, views) = Self::SEES.context("a paper that says not how it sees photos")?(h, how);
        people::embed_photos(&nets.only()?, of, &people::embedding(recipe, views, run))
    }
    /// What a user's photos are ranked by against a gallery, where the network compares two photos.
    fn search(
        nets: &Nets<'_, Self>,
        photos: [&[Photo]; 2],
        how: &Self::Scoring,
        run: &Run,
    ) -> Result<Option<pairs::Ranked>> {
        let _ = (nets, photos, how, run);
        Ok(None)
    }
    /// The parts that are exported, each with its file's name.
    fn modules(h: &Self::Hyper, how: &Self::Scoring) -> Result<Vec<(String, String)>> {
        let _ = (h, how);
        Ok(vec![(String::new(), "model.pt".into())])
    }
    /// What the exported function takes and gives.
    fn about(h: &Self::Hyper, shape: &Self::Shape, part: &str, how: &Self::Scoring) -> About {
        let _ = (shape, part);
        let (recipe, views) = Self::SEES.expect("SEES, or an about of the paper's own")(h, how);
        About::photos(recipe, views, "embeddings")
    }
    /// The exported function: by itself the network.
    fn export(h: &Self::Hyper, net: &Self::Net, how: &Self::Scoring, inputs: &[Tensor]) -> Tensor {
        let _ = (h, how);
        net.forward(&inputs[0], false)
    }
}

pub(crate) fn run_of<H: Hyper>(h: &All<H>, machine: Machine) -> Run {
    Run { machine, seed: h.usual.seed, amp: h.usual.amp }
}

/// So long photos are looked at before a training begins: all of a small set. Of a large one, what cannot be used is found
/// when it is first drawn, or tested.
const GLANCE: Duration = Duration::from_secs(3);

/// The data of a training, said and looked at; errors first where it cannot write into the run folder `at`.
pub(crate) fn opened_data<P: Paper>(h: &All<P::Hyper>, machine: &Machine, at: Option<&Path>) -> Result<P::Data> {
    at.filter(|_| machine.world.leads()).map_or(Ok(()), check_free)?;
    if let (Some(every), Err(why)) = (machine.score_every, P::chooses(&h.own)) {
        return Err(hyper::usage(anyhow!("--score-every {every}: {why}")));
    }
    let data = P::open(&h.own, h.usual.seed)?;
    data.trainable()?;
    data.check(!machine.skip_unreadable, GLANCE)?;
    ensure!(
        !machine.skip_unreadable || (P::BRINGS == "images" && data.trained().any(|read| read.path.is_some())),
        hyper::usage(anyhow!("--skip-unreadable: {} has no image files to train on: leave it out", data.name()))
    );
    data.notes().iter().for_each(note);
    Ok(data)
}

fn config_of<P: Paper>(h: &All<P::Hyper>, shape: &P::Shape, run: &Run) -> Result<Config> {
    Config::new(P::NAME, hyper::flags(h), serde_json::to_value(shape)?, &run.machine.name)
}

/// What processes that were told different run folders are told.
pub(crate) const RUN: &str = "--run: give every process the same";

/// The file of weights that the flags name.
pub(crate) fn file_of(h: &impl Serialize) -> Option<PathBuf> {
    let flags = hyper::flags(h);
    flags.get("weights").and_then(Value::as_str).filter(|file| *file != "none").map(PathBuf::from)
}

/// The network of `store` from the file that `--weights` names, if it does.
fn from_outside<P: Paper>(h: &P::Hyper, store: &VarStore, fit: fn(Published) -> Published) -> Result<()> {
    let (Some(published), Some(file)) = (h.weights().published(), file_of(h)) else { return Ok(()) };
    let started = weights::start(store, &file, &fit(published));
    // Of a network whose file has the first layers alone no other was meant.
    say(if P::PUBLISHED { started.with_context(|| taken_for::<P>(h, &file)) } else { started }?);
    Ok(())
}

/// The network of `store` as training finds it, but for what it takes from its data.
fn started<P: Paper>(h: &P::Hyper, store: &VarStore) -> Result<()> {
    P::start(h, store)?;
    from_outside::<P>(h, store, |published| published)
}

/// Which network a file was taken for, and which one it is of where its name says it.
fn taken_for<P: Paper>(h: &P::Hyper, file: &Path) -> String {
    let (ours, usual) = (hyper::flags(h), hyper::blank::<P::Hyper>().map(|usual| hyper::flags(&usual)));
    let network = hyper::under::<P::Hyper>("Network");
    let axis = |flag: &str| P::Hyper::AXES.contains(&flag) && network.iter().any(|known| known == flag);
    let shown = |(flag, value): (&String, &Value)| {
        let usual = usual.as_ref().is_ok_and(|usual| usual.get(flag) == Some(value));
        format!("--{flag} {}{}", typed_as(value), if usual { " (the default)" } else { "" })
    };
    let taken: Vec<String> = ours.iter().filter(|(flag, _)| axis(flag)).map(shown).collect();
    let own = file.file_name().and_then(|name| catalog::name_for(Path::new(name)));
    let fetched = |h: &P::Hyper| h.weights().published().map_or(&[][..], |published| published.fetch);
    let knows = |h: &P::Hyper| fetched(h).iter().any(|name| own == Some(name));
    let fits = if knows(h) { Vec::new() } else { hyper::choices(h, axis, knows) };
    let fits = fits.first().map_or(String::new(), |fits| format!("; a file of this name is for {fits}"));
    format!("{}{fits}", taken.join(" "))
}

/// Where a part of the run at `at` lies: in a subfolder, or, without a name, in the run's own folder.
fn folder_of(at: &Path, part: &str) -> PathBuf {
    if part.is_empty() { at.to_path_buf() } else { at.join(part) }
}

/// The configuration of a part: the run's, and which part it is.
fn part_config(config: &Config, part: &str) -> Config {
    let mut config = config.clone();
    if !part.is_empty() {
        config.flags.insert("part".into(), part.into());
    }
    config
}

/// A run as its folder says it is, or published weights as if they were one.
pub(crate) struct Opened<P: Paper> {
    /// Its folder.
    pub at: PathBuf,
    /// Its flags.
    pub h: All<P::Hyper>,
    /// What its network knows of its data.
    pub shape: P::Shape,
    /// What weights it has.
    pub stand: Stand,
    config: Config,
}

impl<P: Paper> Opened<P> {
    pub fn nets<'a>(&'a self, run: &'a Run) -> Nets<'a, P> {
        let Opened { at, h, shape, stand, config } = self;
        Nets { h, shape, run, at, config, stand: *stand, live: None, elsewhere: None, steps: RefCell::default() }
    }
}

/// Published weights of the network of `h`: `data/runs/PAPER/NAME-OF-THE-FILE`.
pub(crate) fn published<P: Paper>(mut h: All<P::Hyper>, machine: Machine) -> Result<(Opened<P>, Run)> {
    let file = file_of(&h.own).and_then(|file| Some((file.file_stem()?.to_owned(), file)));
    let (name, file) = file.ok_or_else(|| hyper::usage(anyhow!("--weights: name a file")))?;
    // One name in all folders; what they were trained on is not known.
    let full = file.canonicalize().unwrap_or(file);
    let known = [("data", String::new()), ("weights", full.to_string_lossy().into_owned())];
    h.own = hyper::with(&h.own, &known.map(|(name, value)| (name.into(), value.into())).into_iter().collect())?;
    let (run, shape) = (run_of(&h, machine), P::Shape::default());
    let at = Path::new("data/runs").join(P::NAME).join(name);
    let config = config_of::<P>(&h, &shape, &run)?;
    Ok((Opened { at, h, shape, stand: Stand::Published, config }, run))
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

/// The flags, and what they leave to the machine: process 0 says it for all.
fn settled<P: Paper>(h: &All<P::Hyper>, at: &Path, run: &Run) -> Result<All<P::Hyper>> {
    config::agree(run.world(), &hyper::flags(h))?;
    let mut h = h.clone();
    if run.leads() {
        let begun = Config::read(at).and_then(|config| hyper::from_flags::<All<P::Hyper>>(&config.flags));
        P::settle(&mut h.own, begun.ok().map(|begun| begun.own), run);
    }
    hyper::from_flags(&run.world().told(&hyper::flags(&h))?)
}

/// Some steps of a training, of which nothing is kept: what a step takes, and the steps that there are to do.
pub(crate) fn tried<P: Paper>(h: &All<P::Hyper>, data: &P::Data, run: &Run) -> Result<Tried> {
    let folder = tempfile::tempdir().context("no temporary folder: set TMPDIR")?;
    match train_in::<P>(h, data, &folder.path().join("trial"), run, true) {
        Ok(()) => Err(anyhow!("a trial that did not end")),
        Err(error) => error.downcast::<Tried>(),
    }
}

/// The steps of all parts of a run.
pub(crate) fn steps<P: Paper>(h: &All<P::Hyper>, data: &P::Data, run: &Run) -> Result<u64> {
    let h = &settled::<P>(h, Path::new(""), run)?;
    P::parts(&h.own, data)?.iter().map(|part| Ok(P::plan(&h.own, data, part, run)?.steps)).sum()
}

/// Errors where the run at `at`, which was begun, is of other flags or data.
pub(crate) fn check_begun<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run) -> Result<()> {
    let h = &settled::<P>(h, at, run)?;
    config_of::<P>(h, &P::shape(&h.own, data)?, run)?.match_folder(at)
}

/// Trains all parts, or goes on; what is trained already is passed over.
pub(crate) fn train<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run) -> Result<()> {
    train_in::<P>(h, data, at, run, false)
}

fn train_in<P: Paper>(h: &All<P::Hyper>, data: &P::Data, at: &Path, run: &Run, trial: bool) -> Result<()> {
    let asked = "--data (what it trains on): give every process the same";
    if run.world().size() > 1 {
        run.world().agree(asked, &data.alike())?;
    }
    let h = &settled::<P>(h, at, run)?;
    let shape = P::shape(&h.own, data)?;
    let config = config_of::<P>(h, &shape, run)?;
    let (parts, of_run) = (P::parts(&h.own, data)?, config.clone());
    let several = parts.iter().any(|part| !part.is_empty());
    // Of several processes the first one alone looks at the run's folder.
    let mut photos = if run.leads() { Some(Photos::of(data.trained())) } else { None };
    if several && run.leads() {
        let advice = || format!("cannot write the run folder {}: choose another --run", at.display());
        std::fs::create_dir_all(at).with_context(advice)?;
        let mut whole = config.clone();
        whole.machine.insert("parts".into(), json!(parts));
        whole.write_or_match(at)?;
    }
    if let Some(photos) = photos.as_ref().filter(|_| begun(at, &parts) && !run.machine.data_changed) {
        config.match_folder(at)?;
        photos.compare(at)?;
    }
    for part in parts {
        let store = run.store();
        let net = P::network(&h.own, &shape, &part, &store, run)?;
        let Plan { steps, rule, weight_decay } = P::plan(&h.own, data, &part, run)?;
        let (config, folder) = (part_config(&config, &part), folder_of(at, &part));
        let plan =
            session::Plan { config, at: &folder, steps, log_every: h.usual.log_every, rule, weight_decay, trial };
        let score = |store: &VarStore| {
            let (stand, steps, config) = (Stand::Trained, RefCell::default(), &of_run);
            let nets = Nets { h, shape: &shape, run, at, config, stand, live: Some(store), elsewhere: None, steps };
            let all = P::evaluate(&h.own, data, &nets, &hyper::blank()?, run)?.scores;
            let counts = results::counted(P::COUNT, &all);
            counts.first().copied().or(all.first()).cloned().context("no score")
        };
        let begin = |store: &VarStore| {
            started::<P>(&h.own, store)?;
            P::start_on(&h.own, data, store)
        };
        // Networks with convolutions see images, whose channels lie last.
        let images = store.variables().values().any(|x| x.dim() == 4);
        let mut session = Session::open(plan, &run.machine, store, begin)?;
        if let Some(every) = run.machine.score_every {
            session.scores = Some(Scores::new(every, Box::new(score), &folder)?);
        }
        let place = if images { run.machine.for_images(run.amp) } else { run.machine.name.clone() };
        let named = if part.is_empty() { String::new() } else { format!(", {part}") };
        if session.announce(&format!("{} on {}{named}, {place}", what(h), data.name()))? {
            if run.leads() {
                let models: Vec<String> =
                    P::modules(&h.own, &hyper::blank()?)?.into_iter().map(|(_, file)| file).collect();
                older::set_aside(at, session.steps().start, &models)?;
            }
            // Only now is the folder the run's, and something trained on them.
            if let Some(photos) = photos.take().filter(|photos| !photos.is_empty()) {
                photos.write(at)?;
            }
            P::train(&h.own, data, &part, &net, &mut session, run)?;
            session.close();
        }
    }
    Ok(())
}

/// What is trained in a few words: the paper's own choices, and what makes a batch.
fn what<H: Hyper>(h: &All<H>) -> String {
    let axes = H::AXES.iter().chain(Some(&"loss").filter(|flag| !H::AXES.contains(flag)));
    let axes = axes.map(|flag| hyper::shown(h, flag)).filter(|value| !value.is_empty());
    let batches = hyper::looked_at(h, "Batches").into_iter().filter(|(_, value)| *value != false);
    axes.chain(batches.map(|(flag, value)| format!("{flag} {}", typed_as(&value)))).collect::<Vec<_>>().join(", ")
}

/// Whether there is something trained to go on from.
fn begun(at: &Path, parts: &[String]) -> bool {
    parts.iter().any(|part| checkpoint::exists(&folder_of(at, part)))
}

/// Where scores may stand that belong in `at`: there, or, where others stand there, beside them by a hash of what data they
/// are `of`, or below them by the flags of scoring that differ.
fn place(at: PathBuf, of: &Value, scoring: &Flags) -> PathBuf {
    let old = files::text(&at.join(RESULTS)).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let Some(old) = old.filter(|old| old["paper"].is_string()) else { return at };
    if old["of"] != *of {
        let hash = blake3::hash(of.to_string().as_bytes()).to_hex();
        return place(
            [at.as_os_str(), "-".as_ref(), hash[..8].as_ref()].into_iter().collect::<OsString>().into(),
            of,
            scoring,
        );
    }
    let differ = scoring.iter().filter(|(name, value)| old["scoring"][name] != **value);
    let differ: Vec<String> = differ.map(|(name, value)| format!("{name}-{}", typed_as(value))).collect();
    if differ.is_empty() { at } else { place(at.join(differ.join("-").replace('/', "-")), of, scoring) }
}

/// Scores a run into the folder `at`, or where [`place`] says: `results.json` and `report.html`.
pub(crate) fn evaluate<P: Paper>(
    nets: &Nets<'_, P>,
    data: &P::Data,
    at: &Path,
    how: &P::Scoring,
) -> Result<(Results, Evaluation)> {
    let (h, run) = (nets.h, nets.run);
    let alike = (data.name(), format!("{how:?}"));
    run.world().agree("the data, or how to score them: give every process the same", &alike)?;
    let (of, scoring) = (json!(nets.elsewhere), hyper::flags(how));
    let (mut at, mut scored) = (at.to_path_buf(), None);
    // Of several processes the first one alone writes.
    if run.leads() {
        Results::check_paper(&at, P::NAME)?;
        at = place(at, &of, &scoring);
        Results::check(&at, P::NAME)?;
        scored = content(data.tested().collect());
        let before = files::text(&at.join(RESULTS)).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let before = before.and_then(|old| Some(old["scored"].as_str()?.to_string()));
        if before.is_some() && before != scored {
            note(format!("the test data are not those of the scores that {} had: do not compare them", at.display()));
        }
    }
    let found = P::evaluate(&h.own, data, nets, how, run)?;
    let (mut list, comparable) = claims::beside(P::CLAIMS, h, how, data, &found.scores)?;
    let mut short = None;
    for (part, step) in nets.steps.borrow().iter().filter(|_| nets.stand == Stand::Trained) {
        let steps = P::plan(&h.own, data, part, run)?.steps;
        if *step < steps {
            short = Some(format!("training stopped at step {step} of {steps}"));
        }
    }
    let untrained = match nets.stand {
        Stand::Trained => None,
        Stand::Best => Some("this is the best checkpoint by scores, and not the last".into()),
        Stand::Untrained => Some("this is the network as training found it".to_string()),
        Stand::Published => Some("these weights are from outside".into()),
    };
    let elsewhere = nets.elsewhere.as_ref().map(|_| "this run was trained on other data".to_string());
    let unlike = P::UNLIKE.iter().find(|(holds, _)| holds(&h.own, data)).map(|(_, why)| why.to_string());
    let mut comparable = match unlike.or(untrained).or(short).or(elsewhere) {
        Some(why) => Err(why),
        None => comparable,
    };
    list.iter_mut().filter(|_| comparable.is_err()).for_each(|row| row.ours = None);
    let mut protocol = found.protocol.clone();
    if let (Stand::Published, Some(file)) = (nets.stand, file_of(&h.own)) {
        protocol.push(format!("weights: {}, trained elsewhere", file.display()));
        // A photo seen otherwise is none of theirs.
        let cropped = P::SEEN.iter().any(|flag| nets.elsewhere.iter().any(|typed| typed.contains_key(*flag)));
        let known = if cropped { &[] } else { P::THEIRS };
        let set = data.published().unwrap_or_default();
        let known = claims::published(known, P::COUNT, &list, (&file, how), &set, &found.scores)?;
        if known.iter().any(|row| !row.of_weights) {
            comparable = Ok(());
        }
        list.extend(known);
    }
    let results = Results {
        at,
        of,
        scored,
        paper: P::NAME.into(),
        citation: P::CITATION.into(),
        data: data.name().into(),
        step: nets.steps.borrow().iter().map(|(_, step)| *step).max().unwrap_or(0),
        protocol,
        scoring,
        scores: found.scores.clone(),
        comparable: comparable.is_ok(),
        not_comparable_because: comparable.err(),
        claims: list,
        departures: if nets.stand == Stand::Published { Vec::new() } else { departures::<P>(h) },
    };
    // Every process has the same scores; the first one writes.
    if run.leads() {
        nets.claim()?;
        let at = &results.at;
        std::fs::create_dir_all(at).map_err(|error| files::cannot(at, error))?;
        results.write()?;
        report::<P>(nets, data, &results, &found)?.write(&at.join(REPORT))?;
    }
    Ok((results, found))
}

/// All that departs from the paper in a run with these flags.
pub fn departures<P: Paper>(h: &All<P::Hyper>) -> Vec<String> {
    let some = P::DEPARTURES_WHERE.iter().filter(|(holds, _)| holds(&h.own)).map(|(_, text)| text);
    P::DEPARTURES.iter().chain(some).map(|text| text.to_string()).chain(hyper::departures(h)).collect()
}

/// A page that says what was trained: on which data, with which flags, for how many steps, where.
pub(crate) fn page<P: Paper>(h: &All<P::Hyper>, data: &str, steps: Option<String>, device: &str) -> Report {
    let mut facts = vec![("data".to_string(), data.to_string())];
    // Of published weights nobody here knows how they were trained.
    let trained = steps.is_some();
    for heading in ["Network", "Loss", "Batches"].iter().take(if trained { 3 } else { 1 }) {
        facts.extend(hyper::looked_at(h, heading).into_iter().map(|(flag, value)| (flag, typed_as(&value))));
    }
    if let Some(steps) = steps {
        facts.push(("steps".into(), steps));
        facts.push(("seed".into(), h.usual.seed.to_string()));
    }
    facts.push(("device".into(), device.into()));
    let mut report = Report::new(P::NAME, P::CITATION);
    report.facts(&facts);
    report
}

fn report<P: Paper>(nets: &Nets<'_, P>, data: &P::Data, results: &Results, found: &Evaluation) -> Result<Report> {
    let steps = (nets.stand != Stand::Published).then(|| results.step.to_string());
    let mut report = page::<P>(nets.h, &results.data, steps, &nets.run.machine.name);
    results.lead(P::COUNT, &mut report);
    found.tables.iter().for_each(|(title, table)| report.table(title, "", table));
    results.onto(&mut report, !found.tables.is_empty());
    if !data.notes().is_empty() {
        report.list("Data", data.notes());
    }
    // A run of several parts has their logs alone.
    let logs = [&results.at, nets.at].into_iter().find(|folder| folder.join("log.jsonl").exists()).unwrap_or(nets.at);
    crate::report::curves(&mut report, &[("", logs)])?;
    report.append(found.report.clone());
    if !results.departures.is_empty() {
        report.list("Departures from the paper", &results.departures);
    }
    Ok(report)
}

/// TorchScript with named parameters, compared with the network before it counts as written.
pub(crate) fn export_run<P: Paper>(nets: &Nets<'_, P>, how: &P::Scoring) -> Result<()> {
    let at = nets.stand.folder(nets.at.to_path_buf());
    let modules = P::modules(&nets.h.own, how)?;
    modules.iter().try_for_each(|(_, file)| outputs::check_module(&at.join(file)))?;
    for (part, file) in modules {
        let Loaded { store, net, step } = nets.part(&part)?;
        let about = P::about(&nets.h.own, nets.shape, &part, how);
        // Not zeros: a zero image has no direction before its normalisation.
        let example = |shape: &Vec<i64>| Tensor::ones(&shape[..], (Kind::Float, store.device())) * 0.5;
        let examples: Vec<Tensor> = about.shapes().iter().map(example).collect();
        nets.claim()?;
        std::fs::create_dir_all(&at).map_err(|error| files::cannot(&at, error))?;
        let path = at.join(file);
        let forward = |inputs: &[Tensor]| P::export(&nets.h.own, &net, how, inputs);
        let network = hyper::looked_at(nets.h, "Network");
        let words: Vec<String> = network.iter().map(|(flag, value)| format!("{flag} {}", typed_as(value))).collect();
        let answer = tch::no_grad(|| forward(&examples)).size();
        let step = (nets.stand != Stand::Published).then_some(step);
        let text = about.json(P::NAME, network.into_iter().collect(), step, &answer)?;
        print(export::torchscript(&store, &forward, &examples, &text, &path)?)?;
        files::write_atomic(&path.with_extension("json"), text.as_bytes())?;
        print(format!("network: {}\n{about}", words.join(", ")))?;
        let json = path.with_extension("json");
        print(format!("model:   {}\nabout:   {}, also its extra file model.json", path.display(), json.display()))?;
    }
    Ok(())
}

/// Scores the trained run at `at` into the folder `into`.
pub(crate) fn scored<P: Paper>(
    at: &Path,
    run: &Run,
    data: &P::Data,
    into: &Path,
    how: &P::Scoring,
) -> Result<(Results, Evaluation)> {
    let (opened, run) = opened::<P>(at, run.machine.clone())?;
    evaluate::<P>(&opened.nets(&run), data, into, how)
}

/// Exports the trained run at `at`.
pub(crate) fn exported<P: Paper>(at: &Path, machine: &Machine, how: &P::Scoring) -> Result<()> {
    with_run::<P>(at, machine.clone(), |nets| export_run(nets, how))
}

/// Does `work` with the networks of the trained run at `at`: for a verb of the paper's own.
///
/// # Errors
/// Where there is no run of the paper, and those of `work`.
pub fn with_run<P: Paper>(at: &Path, machine: Machine, work: impl FnOnce(&Nets<'_, P>) -> Result<()>) -> Result<()> {
    let (opened, run) = opened::<P>(at, machine)?;
    work(&opened.nets(&run))
}
