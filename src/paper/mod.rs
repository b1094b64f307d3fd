//! What a paper is: flags, data, networks, training, scores, and the numbers that it printed; and how such a run is
//! opened, trained, scored and exported.

mod nets;
mod opened;
mod scoring;
mod training;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tch::{Tensor, nn::VarStore};

use crate::claims::{Claims, Theirs};
use crate::datasets::Photo;
use crate::deploy::About;
use crate::distance::Metric;
use crate::hyper::{self, Hyper};
use crate::models::Network;
use crate::optim::Rule;
use crate::report::Table;
use crate::run::{Run, session::Session};
use crate::study::Study;
use crate::tasks::{
    Data, Rows,
    brought::{Brought, Use},
    pairs, people,
};
use crate::transform::{Recipe, TestViews};

pub use crate::tasks::{Evaluation, Own};
pub use nets::{Loaded, Nets};
pub(crate) use nets::{RUN, Stand, file_of};
pub use opened::with_run;
pub(crate) use opened::{Opened, check_run, known_start, opened, opened_weights, run_of, understood};
pub use scoring::departures;
pub(crate) use scoring::{evaluate, export_run, exported, page, scored};
pub(crate) use training::{check_begun, opened_data, steps, train, tried};

/// What a paper's file begins with: `use rankle::paper::prelude::*`.
pub mod prelude {
    pub use anyhow::{Context, Result, anyhow, ensure};
    pub use clap::{Args, FromArgMatches, ValueEnum};
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
    pub use tch::{Kind, Tensor, nn::VarStore};

    pub use super::{Brings, Departure, Evaluation, Loaded, Nets, NoScoring, Own, Paper, Plan, Sees, Unlike};
    pub use crate::claims::{Claims, Column, Theirs};
    pub use crate::deploy::About;
    pub use crate::distance::Metric;
    pub use crate::hyper::{
        self, Follow, Heading, Hyper, Idle,
        Place::{At, Ours, OursAs, Says},
        Size, Weights, as_usual, count, positive, shown, when, within,
    };
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
    /// How many steps there are in all.
    pub steps: u64,
    /// The rule of descent.
    pub rule: Rule,
    /// By what each weight is multiplied and added to its gradient (L2).
    pub weight_decay: f64,
}

/// What a user brings to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brings {
    /// Photos: `--images`.
    Images,
    /// Videos: `--videos`.
    Videos,
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

/// A paper as a program: what it trains and on what, how that is scored, and the numbers that it printed.
pub trait Paper: Sized + 'static {
    /// The name of its binary, and of its runs' folder under `data/runs`.
    const NAME: &'static str;
    /// Authors, title, number.
    const CITATION: &'static str;
    /// Flags of the paper's own training beside its defaults and `--weights`, for the lines below `--help`.
    const TRAIN: &'static str = "";
    /// Further lines there: for what, and how.
    const START: &'static [(&'static str, &'static str)] = &[];
    /// What is to be said below them.
    const NOTE: &'static str = "";
    /// What the user brings to `embed`.
    const BRINGS: Brings = Brings::Images;
    /// Flags under [`Heading::Data`] that say how a photo is seen, which `embed` takes too: the run's where they are not given.
    const SEEN: &'static [&'static str] = &[];
    /// Verbs that do with a network what it is for.
    const USES: &'static [Use] = &[];
    /// Verbs beside those of every paper.
    const OWN: &'static [Own] = &[];
    /// What `evaluate --baselines` scores on `--data` instead of a run, if there is such a thing, and the flags of scoring
    /// that it looks at.
    const BASELINES: Option<(&'static str, &'static [&'static str])> = None;
    /// Its flags of training: data, network, loss, batches, optimisation.
    type Hyper: Hyper;
    /// Flags of scoring, of `embed` and of `export`.
    type Scoring: Args + Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
    /// What it is trained and tested on.
    type Data: Data;
    /// What the network must know beside the flags, such as how many classes there are. Most papers need nothing: `()`.
    type Shape: Serialize + DeserializeOwned + PartialEq + Default;
    /// What is trained.
    type Net: Network;
    /// How the network sees photos, if it embeds them: `embed` and `about` follow from it. A paper without it writes both.
    const SEES: Option<Sees<Self>> = None;
    /// How embeddings are compared.
    const METRIC: fn(&Self::Hyper) -> Metric = |_| Metric::SquaredEuclidean;
    /// What departs from the paper, or fills a gap in it, in all runs; what flags change is added.
    const DEPARTURES: &'static [&'static str] = &[];
    /// The same of some runs.
    const DEPARTURES_WHERE: &'static [Departure<Self::Hyper>] = &[];
    /// The same of how some runs are trained. Not said of published weights: how they were trained is not known.
    const DEPARTURES_TRAINING: &'static [Departure<Self::Hyper>] = &[];
    /// Which runs on which data cannot stand beside the paper whatever their numbers, and why.
    const UNLIKE: &'static [Unlike<Self>] = &[];
    /// The numbers that the paper printed, each with the recipe that it is of.
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
    /// Drawn data whose batches have the shape of those of `h`, a run on drawn data: a step is timed on them where its own data
    /// are not here.
    fn drawn(h: &Self::Hyper, seed: u64) -> Result<Self::Data> {
        Self::open(h, seed)
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
    /// The checkpoint of another run that training starts from, if it does; errors where it is not there.
    fn start(h: &Self::Hyper) -> Result<Option<PathBuf>> {
        let _ = h;
        Ok(None)
    }
    /// What training finds in its data, beside that and the file of `--weights`.
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
        match hyper::flags(h).get(hyper::VALIDATION).map(|people| people.as_u64() > Some(0)) {
            Some(true) => Ok(()),
            Some(false) => Err("say --validation N too: training people who are held out to choose by"),
            None => Err(
                "its scores are the test's, and a checkpoint that they chose would have none that is fair: leave it out",
            ),
        }
    }
    /// Scores the networks of a run on `data`: scores by name, how they were computed, pictures. Errors where the data are not
    /// of the shape that the networks were built for.
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
    /// The file of weights of a network that finds what this one is to see, where `how` asks for one.
    fn detector(how: &Self::Scoring) -> Option<PathBuf> {
        let _ = how;
        None
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
