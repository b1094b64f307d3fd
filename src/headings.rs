//! The groups that the help shows flags in, and where a flag stands in the paper. Some groups decide: which flags name the data,
//! which make the network, and which verbs look at a flag of scoring.

use std::fmt;

use clap::Arg;
use clap::builder::{ArgExt, Str};

/// A group of the help, for `help_heading`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// What is trained on; `evaluate` takes these for other data.
    Data,
    /// What is trained for.
    Protocol,
    /// What makes the network; published weights take these.
    Network,
    /// What is minimised.
    Loss,
    /// What a step sees.
    Batches,
    /// How it descends, and how far.
    Optimisation,
    /// A table of the paper, or one run several times.
    Study,
    /// How `evaluate` scores.
    Scoring,
    /// The same, and how `embed` sees.
    Embedding,
    /// The same, and what `export` writes.
    Export,
    /// Where and how it computes.
    Machine,
}

impl Heading {
    const ALL: [Heading; 11] = {
        use Heading::*;
        [Data, Protocol, Network, Loss, Batches, Optimisation, Study, Scoring, Embedding, Export, Machine]
    };

    /// As the help has it.
    pub fn name(self) -> &'static str {
        match self {
            Heading::Data => "Data",
            Heading::Protocol => "Protocol",
            Heading::Network => "Network",
            Heading::Loss => "Loss",
            Heading::Batches => "Batches",
            Heading::Optimisation => "Optimisation",
            Heading::Study => "Study",
            Heading::Scoring => "Scoring",
            Heading::Embedding => "Scoring and embedding",
            Heading::Export => "Scoring, embedding and export",
            Heading::Machine => "Machine",
        }
    }

    /// That which a flag names for itself; None where it names none, or one that is not of these.
    pub fn of(arg: &Arg) -> Option<Heading> {
        let name = arg.get_help_heading()?;
        Heading::ALL.into_iter().find(|heading| heading.name() == name)
    }

    /// The verbs that look at a flag of scoring in this group; `reproduce` does what all of them do.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Heading::Scoring => &["evaluate"],
            Heading::Embedding => &["evaluate", "embed"],
            Heading::Export => &["evaluate", "embed", "export"],
            _ => &[],
        }
    }
}

/// Where a flag stands in the paper: `add = At("Section 3.1")`, which its help ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There.
    At(&'static str),
    /// There, and what it says there.
    Says(&'static str, &'static str),
    /// Nowhere: it is ours.
    Ours,
    /// The same, and why.
    OursAs(&'static str),
}

impl ArgExt for Place {}

impl Place {
    /// Where, in the paper; None of what is ours.
    pub fn at(self) -> Option<&'static str> {
        match self {
            Place::At(at) | Place::Says(at, _) => Some(at),
            Place::Ours | Place::OursAs(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::At(at) => f.write_str(at),
            Place::Says(at, what) => write!(f, "{at}: {what}"),
            Place::Ours => f.write_str("ours"),
            Place::OursAs(why) => write!(f, "ours: {why}"),
        }
    }
}

impl From<Heading> for Str {
    fn from(heading: Heading) -> Str {
        heading.name().into()
    }
}
