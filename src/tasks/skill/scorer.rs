//! The networks that score snippets.

use serde::{Deserialize, Serialize};

use crate::models::layers::Scope;
use crate::models::{AlexNet, BnInception, FeatureHead, Network, Prepared, Preprocessing, SnippetSmall};
use crate::video::snippet::Stream;

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

impl Scorer {
    /// The network over `at` for snippets of `inputs` channels of `stream` (or features of that many numbers), with the
    /// normalisation that its published weights expect.
    pub fn build(self, at: &Scope, inputs: i64, stream: Stream, dropout: f64) -> Prepared {
        let flow = stream == Stream::Temporal;
        let torchvision = if flow { Preprocessing::Flow } else { Preprocessing::Frame };
        let (network, input): (Box<dyn Network>, Preprocessing) = match self {
            Scorer::Alexnet => (Box::new(AlexNet::new(at, inputs, dropout)), torchvision),
            Scorer::BnInception => {
                let cadene = if flow { Preprocessing::FlowCentred } else { Preprocessing::FrameBgr };
                (Box::new(BnInception::new(at, inputs, dropout)), cadene)
            }
            Scorer::Small => (Box::new(SnippetSmall::new(at, inputs, dropout)), torchvision),
            Scorer::Features => (Box::new(FeatureHead::new(at, inputs, dropout)), Preprocessing::Features),
        };
        Prepared { network, input }
    }
}
