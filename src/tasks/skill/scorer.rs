//! The networks that score snippets.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;

use crate::catalog;
use crate::models::layers::Scope;
use crate::models::{AlexNet, BnInception, FeatureHead, Input, Network, Prepared, SnippetSmall};
use crate::say::say;
use crate::video::snippet::Stream;
use crate::weights::{self, Published};

/// f: a snippet to a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// AlexNet (the CVPR version)
    Alexnet,
    /// BN-Inception (the first version, 2017)
    BnInception,
    /// Four small convolutions, for drawn videos (not the paper's)
    Small,
    /// A linear head on ready-made features of snippets (not the paper's)
    Features,
}

impl fmt::Display for Scorer {
    /// As it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

impl Scorer {
    /// The network over `at` for snippets of `inputs` channels of `stream` (or features of that many numbers), with the
    /// normalisation that its published weights expect.
    pub fn build(self, at: &Scope, inputs: i64, stream: Stream, dropout: f64) -> Prepared {
        let flow = stream == Stream::Temporal;
        let torchvision = if flow { Input::Flow } else { Input::Frame };
        let (network, input): (Box<dyn Network>, Input) = match self {
            Scorer::Alexnet => (Box::new(AlexNet::new(at, inputs, dropout)), torchvision),
            Scorer::BnInception => {
                let cadene = if flow { Input::FlowCentred } else { Input::FrameBgr };
                (Box::new(BnInception::new(at, inputs, dropout)), cadene)
            }
            Scorer::Small => (Box::new(SnippetSmall::new(at, inputs, dropout)), torchvision),
            Scorer::Features => (Box::new(FeatureHead::new(at, inputs, dropout)), Input::Features),
        };
        Prepared { network, input }
    }

    /// Whether there are ImageNet weights for it.
    pub fn has_weights(self) -> bool {
        matches!(self, Scorer::Alexnet | Scorer::BnInception)
    }

    /// The command that gets them.
    pub fn fetch(self) -> String {
        catalog::fetch(if self == Scorer::BnInception { "bn-inception" } else { "alexnet" })
    }

    /// The backbone from ImageNet weights, where `file` names some; the score stays as the seed made it.
    ///
    /// # Errors
    /// Where the file is another network's or cannot be read, with the command that gets the right one.
    pub fn start(self, store: &VarStore, file: Option<&str>) -> Result<()> {
        let Some(file) = file.filter(|file| *file != "none") else { return Ok(()) };
        let published = if self == Scorer::BnInception { &Published::BN_INCEPTION } else { &Published::ALEXNET };
        say(weights::start(store, Path::new(file), published)?);
        Ok(())
    }
}
