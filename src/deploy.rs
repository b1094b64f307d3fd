//! What an exported module takes and gives, for whoever runs it without rankle: `model.json` beside the module and among
//! its extra files, and a few lines for the terminal. It is made of the transform's own fields.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::outputs::{MODULE, json_text};
use crate::say::{count, foreign};
use crate::source::View;
use crate::transform::{Place, Recipe, TestViews};
use crate::video::snippet::{Crops, Stream};

/// A module in words and numbers.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// What becomes one row of the module's input.
    pub input: ModuleInput,
    /// How many inputs the module takes: two where it compares two images.
    pub inputs: usize,
    /// What a row of its answer is.
    pub output: Output,
}

/// What becomes one row of a module's input.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModuleInput {
    /// A photo, upright by its EXIF orientation: cropped, resized by `FILTER`, cut into views, normalised.
    Photo {
        /// Side of the centre square that is kept, as a share of the shorter side, rounded to nearest; none keeps all.
        crop: Option<f64>,
        /// To what size it is resized.
        resize: Size,
        /// How pixels between pixels are computed.
        filter: &'static str,
        /// Each is a row of the input; what the module says of them is averaged.
        views: Vec<Place>,
        /// The order of the planes.
        channels: &'static str,
        /// Divides a pixel's byte before the mean is subtracted.
        scale: f64,
        /// Size of a view, mean and deviation.
        #[serde(flatten)]
        recipe: Recipe,
    },
    /// Frames of a video, or five flow fields with x and y of each: the centre square of `height` pixels a side, bytes as
    /// numbers, which the module normalises.
    Snippet {
        /// Whether frames or flow.
        stream: Stream,
        /// How many planes the input has.
        planes: i64,
        /// The order of the planes.
        channels: &'static str,
        /// Of smaller frames the whole shorter side is resized by this.
        filter: &'static str,
        /// Height and width in pixels.
        #[serde(flatten)]
        size: Size,
        /// By what a pixel's byte is divided.
        scale: f64,
    },
    /// Ready-made features.
    Features {
        /// How many numbers a row has.
        width: i64,
    },
}

/// The size of a picture in pixels.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Size {
    /// Down.
    pub height: u32,
    /// Across.
    pub width: u32,
}

/// What a row of a module's answer is.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// In words.
    pub what: String,
    /// Whether rows have length 1, also after views are averaged.
    pub unit: bool,
    /// The classes of a multi-label network, in the order of its scores, which come first in a row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// How photos are resized.
const FILTER: &str = "Pillow's BILINEAR: a triangle filter, widened on shrinking, rounded to bytes";

impl About {
    fn new(input: ModuleInput, what: impl Into<String>) -> About {
        let output = Output { what: what.into(), unit: false, labels: Vec::new() };
        About { input, inputs: 1, output }
    }

    /// A module of photos that are seen by `recipe` in these views.
    pub fn photos(recipe: Recipe, views: TestViews, what: impl Into<String>) -> About {
        let ((height, width), views) = recipe.places(views);
        let (resize, filter) = (Size { height, width }, FILTER);
        About::new(ModuleInput::Photo { crop: None, resize, filter, views, channels: "RGB", scale: 255., recipe }, what)
    }

    /// A module of snippets of a stream, of ready-made features where there are no `crops`.
    pub fn snippets(stream: Stream, crops: Option<&Crops>, inputs: i64, what: impl Into<String>) -> About {
        let Some(&Crops { side, .. }) = crops else { return About::features(inputs, what) };
        let channels = if stream == Stream::Spatial { "RGB" } else { "x, y of field 1 to x, y of field 5" };
        let size = Size { height: side, width: side };
        About::new(ModuleInput::Snippet { stream, planes: inputs, channels, filter: FILTER, size, scale: 1. }, what)
    }

    /// A module of rows of features.
    pub fn features(width: i64, what: impl Into<String>) -> About {
        About::new(ModuleInput::Features { width }, what)
    }

    /// Of what a view keeps of a photo.
    pub fn through(mut self, view: View) -> About {
        if let ModuleInput::Photo { crop, .. } = &mut self.input {
            *crop = (view.crop < 1.).then_some(view.crop);
        }
        self
    }

    /// Whose rows have length 1.
    pub fn unit(mut self) -> About {
        self.output.unit = true;
        self
    }

    /// Whose scores are of these classes.
    pub fn labelled(mut self, labels: Vec<String>) -> About {
        self.output.labels = labels;
        self
    }

    /// Shapes of two rows of each input.
    pub fn shapes(&self) -> Vec<Vec<i64>> {
        let row = match &self.input {
            ModuleInput::Photo { recipe, .. } => vec![2, 3, recipe.height.into(), recipe.width.into()],
            ModuleInput::Snippet { planes, size, .. } => vec![2, *planes, size.height.into(), size.width.into()],
            ModuleInput::Features { width } => vec![2, *width],
        };
        vec![row; self.inputs]
    }

    /// The text of `model.json`: of a paper's network with these flags, trained for so many steps (none where others
    /// trained it), whose answers have this shape.
    pub fn json(&self, paper: &str, network: Map<String, Value>, step: Option<u64>, answer: &[i64]) -> Result<String> {
        let mut all = json!({"paper": paper, "network": network});
        step.into_iter().for_each(|step| all["step"] = json!(step));
        all["input"] = json!(self.input);
        all["inputs"] = json!(self.inputs);
        all["output"] = json!(self.output);
        all["output"]["width"] = json!(answer.get(1).copied().unwrap_or(1));
        json_text(MODULE, &all)
    }
}

impl fmt::Display for About {
    /// Lines on how an input is made and what an answer is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.input {
            ModuleInput::Photo { crop, resize, filter, views, channels, scale, recipe } => {
                let cut = crop.map_or(String::new(), |share| {
                    format!("centre square of {share} of the shorter side (rounded to nearest), ")
                });
                let Size { height, width } = resize;
                writeln!(f, "input:   upright photo, {cut}resized to {height} x {width} (height x width)")?;
                writeln!(f, "         by {filter}")?;
                let Recipe { height, width, mean, std } = recipe;
                writeln!(
                    f,
                    "         {} of {height} x {width} a photo, their answers averaged",
                    count(views.len(), "view")
                )?;
                writeln!(f, "         {channels} planes, (byte / {scale} - mean) / std, mean {mean:?}, std {std:?}")?;
            }
            ModuleInput::Snippet { stream, planes, channels, size, .. } => {
                let (stream, Size { height, width }) = (stream.name(), size);
                writeln!(f, "input:   {stream} stream, {planes} planes ({channels}), bytes as numbers, 0 to 255")?;
                writeln!(f, "         the centre {height} x {width} (height x width) of a frame")?;
            }
            ModuleInput::Features { width } => writeln!(f, "input:   {width} features a row")?,
        }
        let Output { what, unit, labels, .. } = &self.output;
        write!(f, "output:  {what}, {}", if *unit { "of length 1" } else { "not normalised" })?;
        if labels.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = labels.iter().map(|label| foreign(label)).collect();
        write!(f, "\nlabels:  {}: {}", labels.len(), shown.join(", "))
    }
}
