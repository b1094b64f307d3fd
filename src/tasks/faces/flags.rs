//! Which faces train and which are tested, and how they are scored, as flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Command, FromArgMatches, ValueEnum};
use serde::{Deserialize, Serialize};

use super::form::{CropForm, DETECTOR, views};
use crate::bounds::within;
use crate::datasets::Photo;
use crate::datasets::faces::{FaceLayout, FaceSet, folder_names, names};
use crate::device::machine::Machine;
use crate::headings::{Heading, Place::*};
use crate::say::{self, Bar, Within, count};
use crate::source::{Source, View};
use crate::tasks::bare;
use crate::transform::TestViews;

/// Which people are trained on and which are tested.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceData {
    /// Faces to train on: one folder a person, or train and test folders, or drawn for the built-in set
    // The default is the paper's kind of set, which its presets fill in.
    #[arg(long, value_name = "DIR|drawn", default_value = "", value_parser = bare, add = Ours, help_heading = Heading::Data)]
    pub data: String,
    /// Faces to test on, e.g. data/lfw; people of that name leave the training; the test part of --data where it is not given
    #[arg(long, value_name = "DIR", value_parser = bare, add = Ours, help_heading = Heading::Data)]
    pub test: Option<String>,
    /// Names of training people to leave out, a line each, beside those of the test set
    #[arg(long, value_name = "FILE", add = Ours, help_heading = Heading::Data)]
    pub exclude: Option<PathBuf>,
    /// FOLDER,NAME lines where training folders are not named after people, as VGGFace2's identity_meta.csv
    #[arg(long, value_name = "FILE", add = Ours, help_heading = Heading::Data)]
    pub names: Option<PathBuf>,
    /// Leave out training people with fewer images; those with one image come as further negatives only
    #[arg(long, value_name = "N", default_value_t = 1, add = At("the paper has no such rule"), help_heading = Heading::Data)]
    pub min_images: usize,
    /// Side of the centre square that is cut from the images of --test (of all, without --test), as a share of the shorter side, e.g. 0.55 of LFW's 250x250 thumbnails; evaluate cuts other --data, and embed its --images, as the run's where it is not given
    #[arg(long, value_name = "SHARE", value_parser = within(0.1..=1.), add = At("Section 5.6"), help_heading = Heading::Data)]
    pub crop: Option<f64>,
}

impl FaceData {
    /// Training faces of `--data`, test faces of `--test` or of `--data` itself; people are on one side only (1503.03832,
    /// Section 4). Lists without pixels. A set that has nobody to train on can still be scored on.
    ///
    /// # Errors
    /// As [`super::open`]; an unreadable list of names; too few people with `--min-images`.
    pub fn open(&self) -> Result<FaceSet> {
        let exclude = self.exclude.as_deref().map(names).transpose().context("--exclude")?.unwrap_or_default();
        let (mut set, known) = (self.sides()?, self.known()?);
        if set.train.is_empty() {
            return Ok(set.alike(&known));
        }
        set = set.disjoint(&known, &exclude);
        match set.prune(self.min_images) {
            Err(error) if self.min_images > 1 => Err(error),
            _ => Ok(set),
        }
    }

    /// The names of people by those of their folders, where they are not the same.
    fn known(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.names.as_deref().map(folder_names).transpose().context("--names")?.unwrap_or_default())
    }

    /// Both sides, whoever is on both.
    fn sides(&self) -> Result<FaceSet> {
        let data = super::open(&self.data)?;
        Ok(match &self.test {
            None => data.through(self.view()),
            Some(test) => data.all_trained().tested_on(super::open(test)?.all_tested().through(self.view())),
        })
    }

    /// Other data to score a run on that was trained on these: all people of a plain tree are tested, if none of it was trained
    /// on. Who is tested under a name of the training's is noted, and so is that these are gone, so that their names are not known.
    ///
    /// # Errors
    /// As [`FaceData::open`].
    pub fn elsewhere(&self, other: &FaceData) -> Result<FaceSet> {
        let other = FaceData { crop: other.crop.or(self.crop), ..other.clone() };
        let (set, theirs) = (other.sides()?, other.known()?);
        let folder = |data: &FaceData| Path::new(&data.data).canonicalize().ok();
        let same = other.data == self.data || folder(self).is_some_and(|own| Some(own) == folder(&other));
        let set = if same { set } else { set.all_tested() };
        let mut set = set.alike(&theirs);
        // Published weights have no data of their own, and drawn faces are nobody's.
        if ["", "drawn"].contains(&&*self.data) {
            return Ok(set);
        }
        let (Ok(own), Ok(known)) = (self.open(), self.known()) else {
            set.notes.push(format!(
                "{} cannot be opened: whether somebody tested has a name of its people is not known",
                self.data
            ));
            return Ok(set);
        };
        let both = own.trains_names_of(&known, &set, &theirs);
        set.notes.extend(both);
        Ok(set)
    }

    /// How images are seen.
    pub fn view(&self) -> View {
        View { crop: self.crop.unwrap_or(1.), ..View::WHOLE }
    }
}

/// Evaluation by name; the published numbers of open implementations differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Squared distance of the embeddings (the paper)
    Plain,
    /// Embeddings of an image and its mirror image averaged, unit again
    FlipAveraged,
    /// The mean embedding of the other folds' images subtracted, unit again
    MeanSubtracted,
    /// Both
    FlipMeanSubtracted,
}

impl Variant {
    /// Whether mirror images are embedded too.
    pub fn flips(self) -> bool {
        matches!(self, Variant::FlipAveraged | Variant::FlipMeanSubtracted)
    }

    /// Whether a mean is subtracted.
    pub fn centres(self) -> bool {
        matches!(self, Variant::MeanSubtracted | Variant::FlipMeanSubtracted)
    }

    /// The name that a flag takes.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// How test faces are seen and scored.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// How embeddings are compared; the variants are those of open implementations
    #[arg(long, value_enum, default_value_t = Variant::Plain, add = At("Section 4"), help_heading = Heading::Export)]
    pub variant: Variant,
    /// Average with the mirror image's embedding, as --variant flip-averaged
    #[arg(long, conflicts_with = "variant", add = At("the paper has no mirror images"), help_heading = Heading::Export)]
    pub flip: bool,
    /// False accept rate at which VAL is taken
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, value_parser = within(1e-9..=0.999), add = At("Section 5.1"), help_heading = Heading::Scoring)]
    pub far: f64,
    /// Images enrolled a person for recognition, drawn ten times: the mean is the score
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,5", value_parser = within(1..=1_000_000_usize), add = Ours, help_heading = Heading::Scoring)]
    pub enrolled: Vec<usize>,
    /// Neighbours that vote for recognition
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,5", value_parser = within(1..=1_000_000_usize), add = Ours, help_heading = Heading::Scoring)]
    pub neighbours: Vec<usize>,
    /// Squared distance up to which clusters are joined, and below which find takes a photo for the person; the folds' mean threshold where it is not given, and 1.1 without pairs
    #[arg(long, value_name = "D", value_parser = within(1e-6..=4.), add = OursAs("Figure 1 has 1.1"), help_heading = Heading::Scoring)]
    pub cluster_cut: Option<f64>,
    /// Most images that are clustered; time grows with their square
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = within(2..=1_000_000_usize), add = Ours, help_heading = Heading::Scoring)]
    pub cluster_images: usize,
    /// Find the faces of test photos first, each cut out as crop --form does it; --crop then is for photos without one
    #[arg(long, value_name = "FORM", value_enum, num_args = 0..=1, default_missing_value = "160", add = Says("Section 5.6", "by the authors' own detector"), help_heading = Heading::Embedding)]
    pub detect: Option<CropForm>,
    /// MTCNN's weights; [`DETECTOR`] where it is not given.
    #[arg(long, help = format!("MTCNN's weights [default: {DETECTOR}]"), add = Ours, value_name = "FILE", requires = "detect", help_heading = Heading::Embedding)]
    pub detector: Option<PathBuf>,
    /// See test images through JPEG of this quality
    #[arg(long, value_name = "QUALITY", value_parser = within(1..=100_u8), add = At("Table 4"), help_heading = Heading::Scoring)]
    pub jpeg: Option<u8>,
    /// See test images at this many pixels a side
    #[arg(long, value_name = "SIDE", value_parser = within(8..=1024_u32), add = At("Table 4"), help_heading = Heading::Scoring)]
    pub pixels: Option<u32>,
}

impl Scoring {
    /// In which views a face is embedded.
    pub fn views(&self) -> TestViews {
        if self.variant().flips() { TestViews::Flip } else { TestViews::Original }
    }

    /// The detector's weights, where faces are to be found.
    pub fn detector(&self) -> Option<&Path> {
        self.detect.map(|_| self.detector.as_deref().unwrap_or(Path::new(DETECTOR)))
    }

    /// The variant that the flags say.
    pub fn variant(&self) -> Variant {
        if self.flip { Variant::FlipAveraged } else { self.variant }
    }

    /// The set with its test faces as they are to be seen. Where no face is found the photo itself is seen, as in Section
    /// 5.6, which [`FaceSet::detected`] says.
    ///
    /// # Errors
    /// As [`views`]; flags that have no effect on pairs of videos.
    pub fn seen(&self, set: &FaceSet, machine: Option<&Machine>) -> Result<FaceSet> {
        if set.layout == FaceLayout::YoutubeFaces {
            self.pairs_alone(&set.name)?;
        }
        let mut set = FaceSet { train: set.train.clone(), ..set.clone() };
        let mut bar = Bar::new("detect", if self.detect.is_some() { set.test.len() as u64 } else { 0 }, 0);
        let empty = self.detected(&mut set.test, machine, bar.within(), &mut || bar.step(1))?;
        drop(bar);
        set.detected = empty.map(|empty| said(&set.test, &empty));
        set.detected.iter().for_each(say::note);
        let view = View { jpeg: self.jpeg, side: self.pixels, ..View::WHOLE };
        Ok(FaceSet { train: set.train.clone(), ..set.through(view) })
    }

    /// Refuses flags of what videos are not: recognised and clustered.
    fn pairs_alone(&self, name: &str) -> Result<()> {
        let usual = Self::augment_args(Command::new("")).no_binary_name(true).try_get_matches_from([""; 0])?;
        let usual = Scoring::from_arg_matches(&usual)?;
        let flags = [
            ("enrolled", !self.enrolled.is_empty() && self.enrolled != usual.enrolled),
            ("neighbours", self.neighbours != usual.neighbours),
            ("cluster-cut", self.cluster_cut.is_some()),
            ("cluster-images", ![0, usual.cluster_images].contains(&self.cluster_images)),
        ];
        let typed = flags.iter().find(|(_, typed)| *typed);
        typed.map_or(Ok(()), |(flag, _)| {
            bail!("--{flag} has no effect on {name}: pairs of videos alone are scored there: leave it out")
        })
    }

    /// With `--detect` every photo becomes its face; the places of those that have none and stay as they are. `each` is
    /// called for each photo.
    pub fn detected(
        &self,
        photos: &mut [Photo],
        machine: Option<&Machine>,
        within: Within,
        each: &mut dyn FnMut(),
    ) -> Result<Option<Vec<usize>>> {
        let (Some(form), Some(detector)) = (self.detect, self.detector()) else { return Ok(None) };
        let views = views(photos, form, detector, machine, within, each)?;
        let mut empty = Vec::new();
        for (place, (photo, view)) in photos.iter_mut().zip(views).enumerate() {
            match view {
                Some(view) => photo.source = Source::Through(Box::new((photo.source.origin().clone(), Arc::new(view)))),
                None => empty.push(place),
            }
        }
        Ok(Some(empty))
    }
}

fn said(photos: &[Photo], empty: &[usize]) -> String {
    let rest = match empty {
        [] => String::new(),
        [first, ..] => format!(
            "; {} without one {} seen whole (crop leaves such out), the first {}",
            empty.len(),
            say::plural(empty.len(), "is", "are"),
            photos[*first].name
        ),
    };
    let (found, all) = (photos.len() - empty.len(), count(photos.len(), "test photo"));
    format!("--detect: a face found in {found} of {all}{rest}")
}
