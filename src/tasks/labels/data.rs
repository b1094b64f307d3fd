//! A label set as it is trained and tested on, and what a network is built for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Data;
use crate::datasets::labels::{Content, Item, LabelSet, unlike};
use crate::datasets::{Card, Look, drawn, labels};
use crate::run::photos::{Of, Read, Reads};
use crate::say::count;

// ---- Data -------------------------------------------------------------------------------------------------------

/// A label set as it is trained and tested on: without the items that have no label, which the authors' reader cannot pass.
#[derive(Debug)]
pub struct LabelData {
    /// As it lies on disk.
    whole: LabelSet,
    /// Its labelled items.
    pub set: LabelSet,
    /// Those of its training items that are trained on.
    pub train: Arc<[Item]>,
    /// Those that are set aside, "dev".
    pub dev: Arc<[Item]>,
}

impl LabelData {
    /// Opens a folder, or the drawn set; of its training items a share is set aside, drawn by `seed`.
    pub fn open(data: &str, share: f64, seed: u64) -> Result<LabelData> {
        let whole = if data == "drawn" { drawn::shapes() } else { labels::open(Path::new(data))? };
        let set = whole.clone().without_unlabelled();
        let (train, dev) = set.dev(share, seed);
        Ok(LabelData { whole, set, train: train.into(), dev: dev.into() })
    }

    /// This training set with the test items of `other`, which needs no others.
    ///
    /// # Errors
    /// Where `other` has other classes or features.
    pub fn tested_on(self, mut other: LabelData) -> Result<LabelData> {
        other.set = other.set.among(&self.set.classes);
        let of = format!("--data {}", other.set.name);
        LabelShape::of(&self.set).fits(&other.set, &of, &self.set.attributes)?;
        Ok(LabelData { train: self.train, dev: self.dev, ..other })
    }

    /// What the rivals' number of labels and threshold are chosen on, and that in words: the items that are set aside or,
    /// where there are none, those that are trained on.
    ///
    /// # Errors
    /// Where the run's own data have no training items any more.
    pub fn chosen_on(&self) -> Result<(&Arc<[Item]>, String)> {
        ensure!(
            self.train.len() + self.dev.len() > 0,
            "the run's own data have no training items any more, by which k and one threshold are chosen: restore them"
        );
        Ok(match self.dev.len() {
            0 => {
                let items = count(self.train.len(), "training item");
                (&self.train, format!("the {items} themselves (none are set aside: optimistic)"))
            }
            items => (&self.dev, format!("{}, set aside from the training items of the run", count(items, "dev item"))),
        })
    }

    fn read<'a>(&'a self, items: &'a [Item]) -> Reads<'a> {
        let read = |item: &'a Item| {
            let labels = || item.labels.iter().map(|&k| self.set.classes[k as usize].as_str()).collect::<Vec<_>>();
            match &item.content {
                Content::Image(source) => {
                    let of = Of::File(source.path()?);
                    Some(Read { name: item.name.as_str().into(), of, known: labels().join(";").into() })
                }
                Content::Features(row) => {
                    let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Some(Read::row(&*item.name, &bytes, labels().join(";")))
                }
            }
        };
        Box::new(items.iter().filter_map(read))
    }
}

impl Data for LabelData {
    fn name(&self) -> &str {
        &self.set.name
    }

    fn notes(&self) -> &[String] {
        &self.set.notes
    }

    fn published_set(&self) -> std::result::Result<String, String> {
        let why = || format!("{} is not a set that the paper has, whole as it was published", self.set.name);
        if self.set.published { Ok(self.set.layout.to_string()) } else { Err(why()) }
    }

    fn trainable(&self) -> Result<()> {
        ensure!(!self.set.train.is_empty(), "{} has no labelled items to train on", self.set.name);
        self.check(false, Look { within: Duration::ZERO, ..Look::ALL })
    }

    fn check(&self, training: bool, far: Look) -> Result<()> {
        ensure!(!self.set.test.is_empty(), "{} has no labelled items to test", self.set.name);
        self.set.check(training, far)
    }

    fn trained(&self) -> Reads<'_> {
        self.read(&self.set.train)
    }

    fn tested(&self) -> Reads<'_> {
        self.read(&self.set.test)
    }

    fn alike(&self) -> Value {
        let items: Vec<_> = self.set.train.iter().map(|item| (&item.name, &item.labels)).collect();
        json!((&self.set.classes, items))
    }

    fn cards(&self) -> Vec<Card> {
        vec![self.whole.card()]
    }
}

/// What a network is built for: the K classes by name and, of ready-made features, how many numbers a row has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LabelShape {
    /// In the order of the scores.
    pub classes: Vec<String>,
    /// None of images.
    pub features: Option<i64>,
    /// A hash of what these numbers are called, in their order; none of an older version's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<String>,
}

impl LabelShape {
    /// That of a set.
    pub fn of(set: &LabelSet) -> LabelShape {
        let names = json!(set.attributes).to_string();
        let attributes =
            (!set.attributes.is_empty()).then(|| blake3::hash(names.as_bytes()).to_hex()[..16].to_string());
        LabelShape { classes: set.classes.clone(), features: set.feature_width().map(|width| width as i64), attributes }
    }

    /// K, how many classes there are.
    pub fn k(&self) -> i64 {
        self.classes.len() as i64
    }

    /// How many labels a count head tells, where so many were asked for: no more than there are classes, and two at least.
    pub fn most(&self, asked: i64) -> i64 {
        asked.min(self.k().max(2))
    }

    /// Errors where `set` has other classes (or in another order) or features than these, whose names are `attributes` where they
    /// are known; `of` begins the line.
    pub fn fits(&self, set: &LabelSet, of: &str, attributes: &[String]) -> Result<()> {
        let theirs = LabelShape::of(set);
        let kind = |width: Option<i64>| width.map_or("images".into(), |width| format!("rows of {width} features"));
        ensure!(
            theirs.features == self.features,
            "{of}: {} where the run was trained on {}: give data of that kind",
            kind(theirs.features),
            kind(self.features)
        );
        let (count, own) = (theirs.classes.len(), self.classes.len());
        ensure!(
            count == own,
            "{of}: {count} classes where the run was trained on {own}: give data with the same classes"
        );
        let mut classes = theirs.classes.iter().zip(&self.classes).enumerate();
        if let Some((i, (theirs, own))) = classes.find(|(_, (theirs, own))| theirs != own) {
            bail!(
                "{of}: class {} is {theirs:?} where the run was trained on {own:?}: give data with the same classes in the same order",
                i + 1
            );
        }
        let first = Some(attributes).filter(|own| !own.is_empty()).and_then(|own| unlike(own, &set.attributes));
        ensure!(
            self.attributes.is_none() || theirs.attributes == self.attributes,
            "{of}: other attributes than the run was trained on, or in another order{}: give data with the same in the same order",
            first.map_or(String::new(), |first| format!(" ({first})"))
        );
        Ok(())
    }
}
