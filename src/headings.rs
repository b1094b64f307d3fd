//! The groups that the help shows flags in. Some decide: which flags name the data, which make the network, and which verbs
//! look at a flag of scoring.

use clap::Arg;
use clap::builder::Str;

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

impl From<Heading> for Str {
    fn from(heading: Heading) -> Str {
        heading.name().into()
    }
}
