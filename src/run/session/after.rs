//! What follows a step: the log, the watch, scores, checkpoints, signals.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tch::Tensor;

use super::super::board::now;
use super::super::checkpoint;
use super::super::scores::Scores;
use super::super::stop::{Signals, Stopped};
use super::super::watch::Reading;
use super::trial::{TRIAL, Tried, median};
use super::{Done, Session};
use crate::bounds::resident;
use crate::say::Bar;
use crate::transfer::peak_memory;

/// Processes on GPUs ask each other for signals about so often, where a step is shorter.
const LISTEN: Duration = Duration::from_secs(3);

impl Session<'_> {
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
        self.bar.iter_mut().for_each(|bar| self.notes.drain(..).for_each(|text| bar.note(&text)));
        // Every process has the same loss; the first one speaks and writes for all.
        let due = self.logs(step);
        let (count, size) = (step + 1, self.world.size());
        let (mut stop, mut asked) = (None, false);
        // To ask, processes on GPUs wait for all that is queued: at logged steps, and every so many.
        let waits = size > 1 && self.store.device().is_cuda();
        if let Some(signals) = self.signals.as_ref().filter(|_| !waits || due || count >= self.listen.2) {
            if waits {
                loss.double_value(&[]); // the clock is to see the step done
            }
            let (since, from, _) = self.listen;
            let each = since.elapsed() / u32::try_from(count - from).unwrap_or(u32::MAX).max(1);
            let heard = signals.of_all(&self.world, each)?;
            (stop, asked) = (heard.0, heard.1);
            let steps = LISTEN.as_micros() / heard.2.as_micros().max(1);
            self.listen = (Instant::now(), count, count + steps.max(1) as u64);
        }
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
        // As the checkpoint has them: each process's normalisations saw its own share.
        self.world.share_variables(&self.store)?;
        let (line, better) = scores.score(&self.store, count)?;
        if let Some(writes) = &mut self.writes {
            writes.log.line(&line)?;
            if let Some(board) = &mut writes.board {
                board.line(&line, &json!({"time": now()}))?;
            }
            if better {
                let mark = writes.log.sync().map_err(|error| anyhow!("{error:#}; {safe}"))?;
                let progress = checkpoint::Progress::new(count, mark, String::new(), &self.config);
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

    /// Writes a checkpoint of `count` finished steps now.
    fn checkpoint(&mut self, count: u64) -> Result<()> {
        let Some(writes) = &mut self.writes else { return Ok(()) };
        let (last, safe) = (count.saturating_sub(1), kept(self.kept.0, &self.at));
        let mark = writes.folder.check_place().and_then(|()| writes.log.sync());
        let mark = mark.map_err(|error| anyhow!("{error:#}; {safe}"))?;
        self.finite.check(last, &safe)?;
        let watch = serde_json::to_string(&self.watch)?;
        let progress = checkpoint::Progress::new(count, mark, watch, &self.config);
        let mut extra: Vec<_> = self.extra.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        if let Some(rows) = self.left_out.as_ref().filter(|rows| !rows.is_empty()) {
            extra.push((LEFT_OUT.into(), Tensor::from_slice(&rows.iter().copied().collect::<Vec<_>>())));
        }
        let carried =
            self.optimizer.state().into_iter().chain(extra.iter().map(|(name, x)| (name.clone(), x.shallow_clone())));
        let state = self.store.variables().into_iter().chain(carried).map(|(_, x)| x);
        self.finite.check_state(state, last, &safe)?;
        checkpoint::save(&writes.folder, &self.store, &self.optimizer, &extra, &progress)?;
        self.kept = (count, Instant::now());
        Ok(())
    }
}

/// The tensor of a checkpoint with the rows of the training photos that were left out.
pub(super) const LEFT_OUT: &str = "left-out";

/// What is safe, for an error's text.
fn kept(step: u64, at: &Path) -> String {
    match step {
        0 => "no checkpoint had been written yet".to_string(),
        step => format!("the checkpoint of step {step} in {} is kept", at.display()),
    }
}
