//! What surrounds every training loop: the run folder and its lock, resuming, the log, the watch over collapse and
//! non-finite numbers, checkpoints. The loop itself is the paper's and stays in its file.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tch::{Tensor, nn::VarStore};

use super::board::{Board, now};
use super::checkpoint;
use super::config::{self, Config};
use super::folder::{Log, Mark, RunFolder};
use super::scores::Scores;
use super::stop::{Signals, Stopped};
use super::watch::{Finite, Reading, Watch};
use crate::bounds::resident;
use crate::collectives::{Gradients, World};
use crate::device::Captured;
use crate::device::machine::Machine;
use crate::losses::Tally;
use crate::optim::{BETA1, Optimizer, Rule};
use crate::say::{Bar, count, say};
use crate::transfer::{peak_memory, upload};

/// Which run, where, how long, and how often it speaks.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// What `config.json` is to hold.
    pub config: Config,
    /// The run folder.
    pub at: &'a Path,
    /// Steps in all.
    pub steps: u64,
    /// Steps between two log lines; the last step has one always.
    pub log_every: u64,
    /// The rule of descent.
    pub rule: Rule,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// Whether it ends in [`Tried`] after a few steps, and keeps nothing.
    pub trial: bool,
}

/// The end of a training that was a trial: what a step takes.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// Seconds from step to step, the median of some.
    pub seconds: f64,
    /// The most bytes that the process has taken, or its tensors on a GPU; None where the system does not say.
    pub bytes: Option<u64>,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a trial: {} s a step", self.seconds)
    }
}

impl std::error::Error for Tried {}

/// Steps of a trial, the first half of which warm up (a GPU captures its graph at the fourth); fewer where they are slow.
const TRIAL: (usize, Duration) = (14, Duration::from_secs(20));

/// The middle of some numbers, of two the mean; None of none.
pub fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    let below = if of.len().is_multiple_of(2) { middle.checked_sub(1)? } else { middle };
    Some((of[below] + of[middle]) / 2.)
}

/// A training run at work in its folder. It holds the weights and the optimiser, logs, and saves.
#[derive(Debug)]
pub struct Session<'a> {
    /// Tensors that checkpoints carry beside weights and optimiser, by name.
    pub extra: BTreeMap<String, Tensor>,
    at: PathBuf,
    world: World,
    config: Config,
    store: VarStore,
    /// What any stage trains.
    trainable: Vec<(String, Tensor)>,
    rule: (Rule, f64),
    optimizer: Optimizer,
    /// Of the parameters that are trained now; made when first asked for.
    gradients: OnceCell<Gradients>,
    /// Whether a step of this run may become a CUDA graph, the β₁ of the one that is, and it.
    graph: (bool, Option<f64>, Option<Captured>),
    /// None in processes beside the one that writes.
    writes: Option<Writes>,
    steps: u64,
    log_every: u64,
    checkpoint_every: u64,
    start: u64,
    watch: Watch,
    finite: Finite,
    bar: Option<Bar>,
    /// Rows of the training photos that were left out, where that is allowed.
    left_out: Option<BTreeSet<i64>>,
    /// Heard while the loop runs.
    signals: Option<Signals>,
    /// The step of the newest checkpoint, 0 for none, and when it was written.
    kept: (u64, Instant),
    /// Since the last log line: when it was, images and steps since.
    since: (Instant, i64, u32),
    /// How it is scored while it trains, if it is.
    pub scores: Option<Scores<'a>>,
    /// When each step of a trial ended.
    trial: Option<Vec<Instant>>,
}

/// What one process writes for all.
#[derive(Debug)]
struct Writes {
    folder: RunFolder,
    log: Log,
    timing: Log,
    board: Option<Board>,
}

/// A step that was just done.
#[derive(Debug)]
pub struct Done<'a> {
    /// Its number, from 0.
    pub step: u64,
    /// Its loss, a scalar on any device.
    pub loss: &'a Tensor,
    /// Images (clips, rows) in its batch.
    pub images: i64,
    /// How long the loop has waited for its loader so far.
    pub waited: Duration,
}

impl<'a> Session<'a> {
    /// Opens the plan's folder, or goes on from its checkpoint: weights into `store`, state into the optimiser. `begin`
    /// prepares the weights of a run that has no checkpoint yet (ImageNet's, say); where it errors, the folder is not
    /// claimed. Other flags than the folder's own are an error.
    ///
    /// With several processes the first one alone touches the folder and prepares weights; the others are told.
    pub fn open(
        plan: Plan<'_>,
        machine: &Machine,
        mut store: VarStore,
        begin: impl FnOnce(&VarStore) -> Result<()>,
    ) -> Result<Session<'a>> {
        let Plan { mut config, at, steps, log_every, rule, weight_decay, trial } = plan;
        let world = machine.world.clone();
        let mut optimizer = Optimizer::new(rule, weight_decay, &store);
        config.machine.insert("steps".into(), steps.into());
        config.machine.insert("processes".into(), world.size().into());
        config.machine.insert("sync-batch-norm".into(), machine.sync_batch_norm.into());
        config.machine.insert("tf32".into(), machine.tf32.into());
        config.machine.insert("skip-unreadable".into(), machine.skip_unreadable.into());
        config.machine.insert("score-every".into(), machine.score_every.into());
        config::agree(&world, &config.flags)?;
        let normalises = store.variables().keys().any(|name| name.ends_with("running_var"));
        ensure!(
            normalises || !machine.sync_batch_norm,
            "--sync-batch-norm: this network has no batch normalisation: leave it out"
        );
        let (mut writes, mut start, mut watch, mut extra) = (None, 0, Watch::default(), BTreeMap::new());
        if world.leads() {
            if !checkpoint::exists(at) {
                begin(&store)?;
            }
            // Only now: a start that was refused leaves no claim on the folder.
            let folder = RunFolder::open(at)?;
            let begun = config.write_or_match(at)?;
            if begun && !checkpoint::exists(at) {
                say(format!(
                    "note: {} was stopped before its first checkpoint: it starts again from step 0",
                    at.display()
                ));
            }
            let mut mark = Mark::default();
            if let Some(loaded) = checkpoint::load(at, &config, &mut store, Some(&mut optimizer))? {
                loaded.note.iter().for_each(say);
                watch = serde_json::from_str(&loaded.progress.carried)
                    .context("the checkpoint's watch does not fit: train into another --run")?;
                (start, mark, extra) = (loaded.progress.step, loaded.progress.log, loaded.extra);
            }
            let log = Log::open(&folder.file("log.jsonl"), Some(&mark))?;
            // Never cut back: a clock is no function of the run.
            let timing = Log::open(&folder.file("timing.jsonl"), None)?;
            let board = machine.tensorboard.then(|| Board::open(at)).transpose()?;
            writes = Some(Writes { folder, log, timing, board });
        }
        if !world.is_alone() {
            if normalises && !machine.sync_batch_norm {
                say(
                    "note: batch normalisation sees each process's share of a batch alone; --sync-batch-norm makes it see all rows",
                );
            }
            start = world.told(&start)?;
            world.share_variables(&store)?;
            let state = world.told_tensors(optimizer.state())?;
            let fits = optimizer.load_state(state);
            fits.map_err(|name| anyhow!("the optimiser's {name} does not fit: give every process the same flags"))?;
            extra = world.told_tensors(extra.into_iter().collect())?.into_iter().collect();
        }
        let before = extra.remove(LEFT_OUT).map(Vec::<i64>::try_from).transpose()?;
        let left_out = machine.skip_unreadable.then(|| before.into_iter().flatten().collect());
        Ok(Session {
            extra,
            left_out,
            at: at.to_path_buf(),
            graph: (machine.graphs && world.is_alone(), None, None),
            world,
            config,
            rule: (rule, weight_decay),
            optimizer,
            gradients: OnceCell::new(),
            writes,
            steps,
            log_every: log_every.max(1),
            checkpoint_every: machine.checkpoint_every,
            start,
            watch,
            finite: Finite::new(machine.device),
            bar: None,
            signals: None,
            kept: (start, Instant::now()),
            since: (Instant::now(), 0, 0),
            scores: None,
            trial: trial.then(Vec::new),
            trainable: store.variables().into_iter().filter(|(_, x)| x.requires_grad()).collect(),
            store,
        })
    }

    /// The folder that it trains in.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The steps that are left to do.
    pub fn steps(&self) -> Range<u64> {
        self.start.min(self.steps)..self.steps
    }

    /// The steps that are left, cut where a multiple of `every` begins.
    pub fn stretches(&self, every: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let Range { mut start, end } = self.steps();
        std::iter::from_fn(move || {
            let from = start;
            start = ((from / every.max(1) + 1) * every.max(1)).min(end);
            (from < end).then_some(from..start)
        })
    }

    /// Says what is about to be trained (`what`: network, data, batch) or that nothing is left to do, which it
    /// returns as false. From here on signals wait for the end of a step (see [`super::stop`]).
    ///
    /// # Errors
    /// Where the system refuses to hand signals over.
    pub fn announce(&mut self, what: &str) -> Result<bool> {
        let steps = self.steps;
        if self.start >= steps {
            say(format!("{} is trained already ({})", self.at.display(), count(self.start as usize, "step")));
            return Ok(false);
        }
        let verb = if self.start > 0 { "resuming" } else { "training" };
        say(format!("{verb} {what}: step {} of {steps}", self.start));
        self.bar = Some(Bar::new("train", steps, self.start));
        self.since = (Instant::now(), 0, 0);
        self.signals = Some(Signals::listen()?);
        Ok(true)
    }

    /// The weights.
    pub fn store(&self) -> &VarStore {
        &self.store
    }

    /// The backward passes of the parameters that are trained now.
    pub fn gradients(&self) -> &Gradients {
        self.gradients.get_or_init(|| Gradients::new(&self.world, &self.store))
    }

    /// Drops all gradients before a step's backward passes.
    pub fn zero_grad(&mut self) {
        self.optimizer.zero_grad();
    }

    /// Scales the gradients down to a common norm of `most`; 0 leaves them.
    pub fn clip(&mut self, most: f64) {
        self.optimizer.clip(most);
    }

    /// One step of the rule at learning rate `rate`, Adam's with [`BETA1`].
    pub fn step(&mut self, rate: f64) {
        self.optimizer.step(rate, BETA1);
    }

    /// The gradient of `loss`, and a step against it at learning rate `rate`.
    ///
    /// # Errors
    /// Where another process is gone, or libtorch fails.
    pub fn descend(&mut self, loss: &Tensor, rate: f64) -> Result<()> {
        self.zero_grad();
        self.gradients().backward(loss)?;
        self.step(rate);
        Ok(())
    }

    /// A whole step: `work` goes from `inputs`, which it gets on the device, to the loss, its terms and embeddings; then
    /// its gradient, and a step against it at learning rate and β₁ `rates`. What is `fixed` but for inputs (of one shape)
    /// and rates is launched as one CUDA graph from its fourth time on, where a GPU serves one process; `work` then gets
    /// what else it uses as it was at that time. Elsewhere inputs but the first stay where they are.
    ///
    /// # Errors
    /// Those of `work`, and as [`Session::descend`].
    pub fn descend_from(
        &mut self,
        inputs: &[&Tensor],
        fixed: bool,
        rates: (f64, f64),
        work: impl Fn(&[Tensor]) -> Result<(Tensor, Tally, Tensor)>,
    ) -> Result<(Tensor, Tally, Tensor)> {
        let fits = self.optimizer.prepare(rates.0, rates.1);
        if fixed && let (true, beta1, graph) = &mut self.graph {
            let Session { optimizer, store, .. } = self;
            let inputs: Vec<Tensor> = inputs.iter().map(|x| x.shallow_clone()).collect();
            // A first step fits no graph yet, nor does one whose β₁ is another's.
            let begins = beta1.replace(rates.1) != Some(rates.1);
            let done = if begins {
                Captured::new(store.device()).map(|new| graph.insert(new))
            } else {
                graph.as_mut().filter(|_| fits).context("libtorch's fused kernels do not take all parameters")
            };
            let done = done.and_then(|graph| {
                graph.run(&inputs, |inputs| {
                    let (loss, Tally { sum, terms, active }, x) =
                        work(inputs).unwrap_or_else(|error| panic!("{error:#}"));
                    optimizer.zero_grad();
                    loss.backward();
                    optimizer.apply();
                    vec![loss, sum, terms, active, x]
                })
            });
            match done.map(<[Tensor; 5]>::try_from) {
                Ok(found) => {
                    let found = found.map_err(|_| anyhow!("a step left other tensors than it said"));
                    return found.map(|[loss, sum, terms, active, x]| (loss, Tally { sum, terms, active }, x));
                }
                Err(error) => {
                    say(format!("note: this step is not one CUDA graph ({error:#}): training goes on without"))
                }
            }
            self.graph = (false, None, None);
        }
        let device = self.store.device();
        let inputs: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| if i == 0 { upload(x, device) } else { x.shallow_clone() })
            .collect();
        let found = work(&inputs)?;
        self.zero_grad();
        self.gradients().backward(&found.0)?;
        self.optimizer.apply();
        Ok(found)
    }

    /// From now on only the variables that `wanted` names are trained.
    pub fn train_only(&mut self, wanted: impl Fn(&str) -> bool) {
        self.trainable.iter().for_each(|(name, x)| drop(x.set_requires_grad(wanted(name))));
        self.gradients = OnceCell::new();
        (self.graph.1, self.graph.2) = (None, None);
    }

    /// An optimiser without a past, for a new stage of training, over what is trained now.
    pub fn fresh_optimizer(&mut self) {
        self.optimizer = Optimizer::new(self.rule.0, self.rule.1, &self.store);
        (self.graph.1, self.graph.2) = (None, None);
    }

    /// Whether the log takes a line at `step`: only then may a loop compute what makes it wait for a GPU.
    pub fn logs(&self, step: u64) -> bool {
        step.is_multiple_of(self.log_every) || step + 1 == self.steps
    }

    /// The training photos `rows` were left out of a batch: the log counts them. Where nothing may be left out, they are
    /// not asked for.
    ///
    /// # Errors
    /// Where another process is gone.
    pub fn left_out(&mut self, rows: impl FnOnce() -> Vec<usize>) -> Result<()> {
        if let Some(all) = &mut self.left_out {
            let own: Vec<f64> = rows().into_iter().map(|row| row as f64).collect();
            all.extend(self.world.gather_lists(&own)?.concat().into_iter().map(|row| row as i64));
        }
        Ok(())
    }

    /// Takes note of a finished step: the bar, the log line that `line` gives where one is due (an object; its
    /// "mean" and "active" go beside the bar, and the reading, where there is one, to the watch), a checkpoint where one
    /// is due or a signal asks for it. Errors on a loss or weight that is not finite, and where a signal asks for an end.
    pub fn after(&mut self, done: Done<'_>, line: impl FnOnce() -> (Value, Option<Reading>)) -> Result<()> {
        let Done { step, loss, images, waited } = done;
        // Every process has the same loss; the first one speaks and writes for all.
        let due = self.logs(step);
        let (count, size) = (step + 1, self.world.size());
        let mut heard = (None, false);
        // Processes on GPUs wait for each other at logged steps alone.
        if let Some(signals) = self.signals.as_ref().filter(|_| size == 1 || due || !self.store.device().is_cuda()) {
            heard = signals.of_all(&self.world)?;
        }
        let (mut stop, asked) = heard;
        let stopped = |signal, kept| Err(Stopped { signal, kept, several: size > 1 }.into());
        let last = size > 1 && self.trial.is_none() && (stop.is_some() || count == self.steps);
        self.signals.iter().for_each(|signals| signals.last(last));
        let Some(writes) = &mut self.writes else {
            self.score(count)?;
            self.met(last)?;
            return stop.map_or(Ok(()), |signal| stopped(signal, String::new()));
        };
        if let Some(ends) = &mut self.trial {
            if let Some(signal) = stop {
                return stopped(signal, "a trial keeps nothing".into());
            }
            loss.double_value(&[]); // a GPU is done with it
            ends.push(Instant::now());
            let steps = ends.len() - 1;
            if steps > 0 && (steps >= TRIAL.0 || ends[0].elapsed() > TRIAL.1) || step + 1 == self.steps {
                let counted = ends[steps / 2..].windows(2).map(|ends| (ends[1] - ends[0]).as_secs_f64());
                let seconds = median(counted.collect()).unwrap_or_else(|| self.since.0.elapsed().as_secs_f64());
                return Err(Tried { seconds, bytes: peak_memory(self.store.device(), false).or_else(resident) }.into());
            }
            return Ok(());
        }
        self.finite.note(loss);
        self.since.1 += images;
        self.since.2 += 1;
        if let Some(bar) = &mut self.bar {
            bar.step(1);
        }
        if due {
            writes.folder.check_place()?;
            self.finite.check(step, &kept(self.kept.0, &self.at))?;
            let (mut line, reading) = line();
            if let Some(left_out) = &self.left_out {
                line["left_out"] = json!(left_out.len());
            }
            writes.log.line(&line)?;
            if let Some(warning) = reading.and_then(|reading| self.watch.read(reading)) {
                writes.log.line(&json!({"step": step, "warning": warning}))?;
                if let Some(bar) = &mut self.bar {
                    bar.line(&format!("step {step}: {warning}"));
                }
            }
            let passed = self.since.0.elapsed().as_secs_f64();
            let (speed, waited) = (self.since.1 as f64 / passed, waited.as_secs_f64());
            let mut timing = json!({"step": step, "images_per_second": speed, "loader_wait_seconds": waited});
            timing["seconds_per_step"] = json!(passed / f64::from(self.since.2.max(1)));
            timing["time"] = json!(now());
            if let Some(bytes) = peak_memory(self.store.device(), false) {
                timing["gpu_peak_bytes"] = json!(bytes);
            }
            writes.timing.line(&timing)?;
            if let Some(board) = &mut writes.board {
                board.line(&line, &timing)?;
            }
            if let Some(bar) = &mut self.bar {
                let number = |key: &str| line.get(key).and_then(Value::as_f64);
                let loss = number("mean").or(number("loss")).unwrap_or(f64::NAN);
                let active =
                    number("active").map_or_else(String::new, |share| format!("active {:.0}%  ", 100. * share));
                let score = self.scores.as_ref().map_or_else(String::new, Scores::words);
                bar.message(format!("loss {loss:.4}  {active}{speed:.0} images/s  {score}").trim_end().into());
            }
            self.since = (Instant::now(), 0, 0);
        }
        self.score(count)?;
        let due = count.is_multiple_of(self.checkpoint_every) || self.kept.1.elapsed().as_secs() >= 120;
        if due || asked || count == self.steps {
            self.checkpoint(count)?;
        }
        if size == 1 {
            // Again: a signal may come while a checkpoint is written.
            stop = self.signals.as_ref().and_then(Signals::stop);
        }
        if stop.is_some() && self.kept.0 != count {
            self.checkpoint(count)?;
        }
        if let (true, Some(bar)) = (asked, &mut self.bar) {
            bar.line(&kept(count, &self.at));
        }
        self.met(last)?;
        match stop {
            None => Ok(()),
            Some(signal) => stopped(signal, kept(count, &self.at)),
        }
    }

    /// Scores the network where that is due after `count` steps: a line of the log, and, where none was better, the weights.
    fn score(&mut self, count: u64) -> Result<()> {
        let due = self.scores.as_mut().filter(|scores| self.trial.is_none() && scores.due(count, self.steps));
        let Some(scores) = due else { return Ok(()) };
        let (begun, safe) = (Instant::now(), kept(self.kept.0, &self.at));
        if self.writes.is_some() {
            self.finite.check(count - 1, &safe)?;
        }
        let bar = self.bar.take().is_some(); // there is one of its own
        let (line, better) = scores.score(&self.store, count)?;
        if let Some(writes) = &mut self.writes {
            writes.log.line(&line)?;
            if let Some(board) = &mut writes.board {
                board.line(&line, &json!({"time": now()}))?;
            }
            if better {
                let progress = checkpoint::Progress::new(count, Mark::default(), String::new(), &self.config);
                checkpoint::save_best(&writes.folder, &self.store, &progress)?;
            }
        }
        if bar {
            let mut bar = Bar::new("train", self.steps, count);
            bar.line(&format!("step {count}: {}, {}", line["of"].as_str().unwrap_or(""), scores.words()));
            self.bar = Some(bar);
        }
        self.since.0 += begun.elapsed();
        Ok(())
    }

    /// Behind the `last` checkpoint all meet: who leaves before it is written may take the others along.
    fn met(&self, last: bool) -> Result<()> {
        if last {
            self.world.barrier()?;
            self.signals.iter().for_each(|signals| signals.last(false));
        }
        Ok(())
    }

    /// The end of a training that went well: a signal that came after its last step ends the process here.
    pub fn close(mut self) {
        self.bar = None;
        if let Some(signals) = self.signals.take() {
            signals.close();
        }
    }

    /// Writes a checkpoint of `count` finished steps now.
    fn checkpoint(&mut self, count: u64) -> Result<()> {
        let Some(writes) = &mut self.writes else { return Ok(()) };
        let (last, safe) = (count.saturating_sub(1), kept(self.kept.0, &self.at));
        let mark = writes.folder.check_place().and_then(|()| writes.log.sync());
        let mark = mark.map_err(|error| anyhow!("{error:#}; {safe}"))?;
        self.finite.check(last, &safe)?;
        self.finite.check_weights(&self.store, last, &safe)?;
        let carried = serde_json::to_string(&self.watch)?;
        let progress = checkpoint::Progress::new(count, mark, carried, &self.config);
        let mut extra: Vec<_> = self.extra.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        if let Some(rows) = self.left_out.as_ref().filter(|rows| !rows.is_empty()) {
            extra.push((LEFT_OUT.into(), Tensor::from_slice(&rows.iter().copied().collect::<Vec<_>>())));
        }
        checkpoint::save(&writes.folder, &self.store, &self.optimizer, &extra, &progress)?;
        self.kept = (count, Instant::now());
        Ok(())
    }
}

/// The tensor of a checkpoint with the rows of the training photos that were left out.
const LEFT_OUT: &str = "left-out";

/// What is safe, for an error's text.
fn kept(step: u64, at: &Path) -> String {
    match step {
        0 => "no checkpoint had been written yet".to_string(),
        step => format!("the checkpoint of step {step} in {} is kept", at.display()),
    }
}

/// Loads the weights of the run at `at` into `store`, the `best` or the newest: the steps that were done. Errors where there
/// is no checkpoint. Of several processes the first one reads.
pub fn load(at: &Path, config: &Config, store: &mut VarStore, best: bool, world: &World) -> Result<u64> {
    let mut step = 0;
    if world.leads() && best {
        step = checkpoint::load_best(at, config, store)?;
    } else if world.leads() {
        // Of a part too, which no one has read yet.
        checkpoint::exists(at).then(|| Config::read(at)).transpose()?;
        let loaded = checkpoint::load(at, config, store, None)?
            .with_context(|| format!("{} has no checkpoint yet: train it first", at.display()))?;
        loaded.note.iter().for_each(say);
        step = loaded.progress.step;
    }
    if !world.is_alone() {
        step = world.told(&step)?;
        world.share_variables(store)?;
    }
    Ok(step)
}
