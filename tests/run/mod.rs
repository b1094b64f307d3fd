//! What keeps a run safe: the watch, the log, configuration, checkpoints.

mod board;
mod cached;
mod checkpoint;
mod config;
mod folder;
mod history;
mod photos;
mod session;
mod stats;
mod stop;
mod watch;

use std::path::Path;

use rankle::hyper;
use rankle::optim::{Optimizer, Rule};
use rankle::run::checkpoint::{Progress, load, save};
use rankle::run::config::Config;
use rankle::run::folder::{Log, Mark, RunFolder};
use serde_json::json;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind};
use tempfile::{TempDir, tempdir};

/// A run with two checkpoints, of steps 1 and 2, and a log line of each.
struct Small {
    place: TempDir,
    config: Config,
    store: VarStore,
    optimizer: Optimizer,
}

impl Small {
    fn new() -> Small {
        let (place, store) = (tempdir().expect("a folder"), VarStore::new(Device::Cpu));
        let x = (store.root() / "part").var("x", &[3], Init::Const(1.));
        let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), json!(["a", "b"]), "cpu").expect("one");
        let mut small = Small { place, config, optimizer: Optimizer::new(Rule::ADAM, 0., &store), store };
        small.config.write_or_match(small.place.path()).expect("written");
        let folder = RunFolder::open(small.place.path()).expect("open");
        let mut log = Log::open(&folder.file("log.jsonl"), Some(&Mark::default())).expect("open");
        for step in 1..=2 {
            small.optimizer.zero_grad();
            x.square().sum(Kind::Float).backward();
            small.optimizer.step(0.1, 0.9);
            log.line(&json!({"step": step, "loss": 0.5})).expect("written");
            small.save(&folder, step, log.sync().expect("synced"));
        }
        small
    }

    fn save(&self, folder: &RunFolder, step: u64, mark: Mark) {
        let progress = Progress::new(step, mark, "{}".into(), &self.config);
        save(folder, &self.store, &self.optimizer, &[], &progress).expect("saved");
    }

    fn at(&self) -> &Path {
        self.place.path()
    }

    /// The step that is loaded, and what is said; or the error.
    fn load(&mut self) -> Result<(u64, String), String> {
        let loaded = load(self.place.path(), &self.config, &mut self.store, None);
        let loaded = loaded.map_err(|error| format!("{error:#}"))?.expect("a checkpoint");
        Ok((loaded.progress.step, loaded.note.unwrap_or_default()))
    }
}
