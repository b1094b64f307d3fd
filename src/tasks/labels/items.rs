//! What a network says of items.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::json;
use tch::{Kind, Tensor};

use super::super::Rows;
use super::super::brought::Brought;
use super::super::embed::at_once;
use super::super::kept::Kept;
use super::batches::laid_out;
use super::decisions::{Decision, Outputs};
use super::encoding::Encoding;
use crate::collectives::Shares;
use crate::datasets;
use crate::datasets::labels::{Content, Item};
use crate::device::autocast;
use crate::device::machine::Machine;
use crate::loader::Loader;
use crate::models::hold_weights;
use crate::models::label::LabelSystem;
use crate::run::Run;
use crate::say::{Bar, count};
use crate::transfer::{Fetch, stage, upload};

/// What a network says of a user's photos: features where they are wanted, scores, thresholds, the counts that the count
/// head says and the labels that are decided.
pub fn say(
    net: &LabelSystem,
    of: &Brought,
    encoding: Encoding,
    classes: &[String],
    decision: Decision,
    run: &Run,
) -> Result<Rows> {
    let item = |photo: &datasets::Photo| Item {
        name: photo.name.to_string(),
        content: Content::Image(photo.source.clone()),
        labels: vec![],
        difficult: vec![],
    };
    // Rows with features and without are kept apart.
    let kept = of.kept.clone().map(|kept| Kept { on: json!([kept.on, of.features]), ..kept });
    let of = &Brought { kept, ..of.clone() };
    let batch = items_at_once(encoding, &run.machine);
    let mut rows = of.rows(run.machine.skip_unreadable, &|photo| photo.source.image(), batch, &|photos, bar| {
        let items = photos.iter().map(item).collect();
        let outputs = Outputs::told(net, &items, encoding, classes.len(), run, bar, of.features)?;
        let mut tensors = outputs.tensors(decision);
        tensors.retain(|(name, _)| of.features || name != "features");
        Ok(Rows { tensors, ..Rows::of(photos) })
    })?;
    rows.metadata.push(("classes".into(), serde_json::to_string(classes)?));
    Ok(Rows { what: format!("scores and labels of {}", count(rows.names.len(), "image")), ..rows })
}

/// Items that go through a network at once.
pub(super) fn items_at_once(encoding: Encoding, machine: &Machine) -> usize {
    match encoding {
        Encoding::Images(recipe) => at_once(recipe.height, recipe.width, machine.device),
        Encoding::Features(_) => 64,
    }
}

/// What `forward` gives for the input of `items` in plain views, in chunks: f32 on the CPU, a row an item. Each process
/// computes a share, and all have all rows in the end.
///
/// # Errors
/// Where there are no items, or one can't be read.
pub fn over_items<const N: usize>(
    items: &Arc<[Item]>,
    encoding: Encoding,
    machine: &Machine,
    bar: &mut Bar,
    forward: impl Fn(&Tensor) -> [Tensor; N],
) -> Result<[Tensor; N]> {
    ensure!(!items.is_empty(), "no items to look at");
    let chunk = items_at_once(encoding, machine);
    // Fewer items than processes: each computes them all.
    let shares = machine.world.shares(items.len(), 1).ok();
    let own = shares.as_ref().map_or(0..items.len(), Shares::own);
    let (shared, range, device) = (items.clone(), own.clone(), machine.device);
    let chunks = own.len().div_ceil(chunk) as u64;
    let loader = Loader::new(0..chunks, machine.workers, machine.workers + 1, move |place| {
        let from = range.start + place as usize * chunk;
        let items: Vec<&Item> = shared[from..range.end.min(from + chunk)].iter().collect();
        Ok(stage(encoding.input(&items)?, device))
    })?;
    let mut parts: [Fetch; N] = std::array::from_fn(|_| Fetch::default());
    let _held = hold_weights();
    for x in loader {
        let x = laid_out(&upload(&x?, device));
        for (part, rows) in parts.iter_mut().zip(tch::no_grad(|| forward(&x))) {
            part.push(&rows.to_kind(Kind::Float));
        }
        bar.step(x.size()[0] as u64);
    }
    bar.step((items.len() - own.len()) as u64);
    let mut rows: [Tensor; N] = std::array::from_fn(|_| Tensor::default());
    for (rows, part) in rows.iter_mut().zip(parts) {
        *rows = part.all()?.unwrap_or_default();
    }
    if let Some(shares) = shares {
        for x in &mut rows {
            *x = machine.world.gather(x, &shares)?;
        }
    }
    Ok(rows)
}

/// fc7 `[N, F]` and f `[N, K]` of items, f32 on the CPU; see [`over_items`].
pub fn features(
    net: &LabelSystem,
    items: &Arc<[Item]>,
    encoding: Encoding,
    run: &Run,
    what: &str,
) -> Result<[Tensor; 2]> {
    over_items(items, encoding, &run.machine, &mut Bar::new(what, items.len() as u64, 0), |x| forward(net, x, run))
}

/// fc7 and f of inputs.
pub(super) fn forward(net: &LabelSystem, x: &Tensor, run: &Run) -> [Tensor; 2] {
    autocast(run.amp, run.machine.device, || {
        let feature = net.feature(x, false);
        let f = net.net.scores(&feature, false);
        [feature, f]
    })
}
