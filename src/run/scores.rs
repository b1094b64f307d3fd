//! Scores of a network while it trains, and the best of its checkpoints by them.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tch::nn::VarStore;

use super::{checkpoint, history};
use crate::say::note;

/// The best checkpoint: weights alone.
pub const BEST: &str = "best.safetensors";

/// Scores weights: what the score is called, and it; more is better.
pub type Evaluate<'a> = Box<dyn Fn(&VarStore) -> Result<(String, f64)> + 'a>;

/// When a training is scored, by what, and what came of it so far.
pub struct Scores<'a> {
    every: u64,
    scorer: Evaluate<'a>,
    /// Steps done and score of the best, and of the last.
    best: Option<(u64, f64)>,
    last: Option<(u64, f64)>,
}

/// The scores in the log of `run`, each with the steps that were done then.
pub(super) fn logged(run: &Path) -> Result<Vec<(u64, f64)>> {
    let of = |line: Value| Some((line["step"].as_u64()?.saturating_add(1), line["score"].as_f64()?));
    Ok(history::lines(&run.join("log.jsonl"))?.into_iter().filter_map(of).collect())
}

/// The first of the highest of these scores; from that after `kept` steps on, where there is one: the best before it was lost.
fn best(logged: &[(u64, f64)], kept: Option<u64>) -> Option<(u64, f64)> {
    let from = logged.iter().position(|(step, _)| Some(*step) == kept).unwrap_or(0);
    logged[from..].iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The later step, if there is one, whose score among those `logged` is above that of the best checkpoint, which is of `step`.
pub(super) fn better(logged: &[(u64, f64)], step: u64) -> Option<u64> {
    best(logged, Some(step)).map(|(best, _)| best).filter(|best| *best > step)
}

/// The earlier step, if there is one, whose score among those `logged` is above that of the best checkpoint, which is of `step`:
/// its weights were lost before these were kept.
pub(super) fn lost(logged: &[(u64, f64)], step: u64) -> Option<u64> {
    let earlier = &logged[..logged.partition_point(|(known, _)| *known <= step)];
    best(earlier, None).map(|(best, _)| best).filter(|best| *best < step)
}

impl fmt::Debug for Scores<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scores every {} steps, best {:?}", self.every, self.best)
    }
}

impl<'a> Scores<'a> {
    /// Those of a training in `run`, whose log has what was scored before it was interrupted.
    pub fn new(every: u64, scorer: Evaluate<'a>, run: &Path) -> Result<Scores<'a>> {
        let (logged, kept) = (logged(run)?, checkpoint::best_step(run));
        let mut scores =
            Scores { every: every.max(1), scorer, best: best(&logged, kept), last: logged.last().copied() };
        // What is no longer there is nobody's best.
        if let Some((step, _)) = scores.best.take_if(|(step, _)| kept != Some(*step)) {
            note(format!(
                "{} is not what it was after step {step}, which scored best: the best of what follows is kept",
                run.join(BEST).display()
            ));
        }
        Ok(scores)
    }

    /// Whether scores are due after `count` of `steps` steps.
    pub fn due(&self, count: u64, steps: u64) -> bool {
        count.is_multiple_of(self.every) || count == steps
    }

    /// Scores the weights of `store` after `count` steps: the line for the log, and whether none was better.
    pub fn score(&mut self, store: &VarStore, count: u64) -> Result<(Value, bool)> {
        let (name, score) = (self.scorer)(store)?;
        let better = self.take(count, score);
        Ok((json!({"step": count - 1, "score": score, "of": name}), better))
    }

    fn take(&mut self, count: u64, score: f64) -> bool {
        self.last = Some((count, score));
        let better = !score.is_nan() && self.best.is_none_or(|(_, best)| score > best);
        self.best = if better { self.last } else { self.best };
        better
    }

    /// The last score and the best.
    pub fn words(&self) -> String {
        match (self.last, self.best) {
            (Some((_, last)), Some((step, best))) => format!("score {last:.4} (best {best:.4} at {step})"),
            _ => String::new(),
        }
    }
}
