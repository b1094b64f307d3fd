//! The command line of a paper's program: its verbs and their flags.

use std::path::PathBuf;

use clap::{Args, Command, Subcommand};

use crate::device::machine::{MachineFlags, SharedFlags, TrainingFlags};
use crate::hyper::{self, All, Heading, Hyper, Weights};
use crate::paper::{Brings, Paper};
use crate::tasks::kept::Keeping;
use crate::{catalog, shell, verbs};

/// Flags of `train` and `reproduce`.
#[derive(Args)]
pub(super) struct Training<H: Args> {
    /// Run folder [default: data/runs/PAPER/ and a name made from the flags]
    #[arg(long, value_name = "DIR", help_heading = Heading::Machine)]
    pub(super) run: Option<PathBuf>,
    #[command(flatten)]
    pub(super) hyper: All<H>,
    #[command(flatten)]
    pub(super) machine: TrainingFlags,
}

#[derive(Args)]
pub(super) struct Reproduce<H: Args, S: Args> {
    /// A table or figure of the paper instead of one run, each cell in a run folder of its own
    #[arg(long, value_name = "NAME", help_heading = Heading::Study)]
    pub(super) table: Option<String>,
    /// Train with each of these seeds, e.g. 1,2,3 or 1-3, and average
    #[arg(long, value_name = "LIST", conflicts_with = "seed", help_heading = Heading::Study)]
    pub(super) seeds: Option<String>,
    /// Train and test on each of these splits of a set that has several, e.g. 1-20, and average
    #[arg(id = "several-splits", long = "splits", value_name = "LIST", help_heading = Heading::Study)]
    pub(super) splits: Option<String>,
    /// List what it needs instead: data, weights, steps, memory, and hours on this machine by some steps of each kind
    #[arg(long, help_heading = Heading::Study)]
    pub(super) plan: bool,
    /// Only these rows of the table, e.g. the first and third: 1,3, or by what they are called
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "table", help_heading = Heading::Study)]
    pub(super) only: Vec<String>,
    #[command(flatten)]
    pub(super) training: Training<H>,
    #[command(flatten)]
    pub(super) scoring: S,
}

/// What `evaluate`, `embed` and `export` work with; [`with_weights`] says what may stand in its place.
#[derive(Args)]
pub(super) struct Made {
    /// Run folder that train made
    #[arg(long, value_name = "DIR", help_heading = Heading::Machine)]
    pub(super) run: Option<PathBuf>,
    /// Take the network as training found it instead: what training was worth (scores and models go into DIR/untrained)
    #[arg(long, help_heading = Heading::Scoring)]
    pub(super) untrained: bool,
    /// Take the best checkpoint by the scores of train --score-every, not the newest (scores and models go into DIR/best)
    #[arg(long, conflicts_with = "untrained", help_heading = Heading::Scoring)]
    pub(super) best: bool,
}

#[derive(Args)]
pub(super) struct Evaluate<S: Args> {
    #[command(flatten)]
    pub(super) made: Made,
    #[command(flatten)]
    pub(super) machine: SharedFlags,
    #[command(flatten)]
    pub(super) scoring: S,
}

#[derive(Args)]
pub(super) struct Embed<S: Args> {
    #[command(flatten)]
    pub(super) using: Using,
    /// File to write by its ending, .safetensors (names in its metadata), .npz, or .csv (what made it in a .json of its name): a row an image or video
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) scoring: S,
}

#[derive(Args)]
pub(super) struct Export<S: Args> {
    #[command(flatten)]
    pub(super) made: Made,
    /// Fold normalisations into the convolutions and all weights into constants: faster, and no longer to be trained (model-folded.pt)
    #[arg(long, help_heading = Heading::Network)]
    pub(super) folded: bool,
    #[command(flatten)]
    pub(super) machine: MachineFlags,
    #[command(flatten)]
    pub(super) scoring: S,
}

#[derive(Args)]
pub(super) struct Using {
    #[command(flatten)]
    pub(super) made: Made,
    #[command(flatten)]
    pub(super) keeping: Keeping,
    #[command(flatten)]
    pub(super) machine: MachineFlags,
}

#[derive(Args)]
pub(super) struct Card {
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Written {
    /// Run folder
    #[arg(long, value_name = "DIR")]
    pub(super) run: PathBuf,
}

#[derive(Args)]
pub(super) struct Compare {
    /// Run folders, two or more
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub(super) runs: Vec<PathBuf>,
    /// Page to write
    #[arg(long, value_name = "FILE.html", default_value = "compare.html")]
    pub(super) out: PathBuf,
}

#[derive(Subcommand)]
pub(super) enum Verb<H: Args, S: Args> {
    /// Train, evaluate, export; ends with the paper's numbers beside ours
    Reproduce(Reproduce<H, S>),
    /// Train, or go on training where the same command was interrupted
    Train(Training<H>),
    /// Score a trained run: results.json, report.html, the table
    Evaluate(Evaluate<S>),
    /// Embed all that lies in a folder into a .safetensors, .npz or .csv
    Embed(Embed<S>),
    /// Write the network as TorchScript, loaded again and compared before it counts as written
    Export(Export<S>),
    /// The data card: counts, labels, sizes, problems, what differs from the published set
    Data(Card),
    /// Write report.html of a run as it stands, also while it trains
    Report(Written),
    /// What differs between runs, their scores beside each other, and a page with their curves
    Compare(Compare),
    /// Print what has a shell complete verbs and flags
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// That of a verb
        verb: Option<String>,
    },
}

/// The command line of a paper, as it is read by people.
pub fn command<P: Paper>() -> Command {
    let (network, published) = (hyper::under::<P::Hyper>(Heading::Network), ["evaluate", "embed", "export"]);
    let uses = P::USES.iter().map(|verb| verb.name);
    let explained = |command: Command, verb: &str| {
        command
            .mut_subcommand(verb, |of| hyper::explained::<P::Hyper>(of, |flag| network.iter().any(|own| own == flag)))
    };
    let command = ["reproduce", "train"].into_iter().fold(plain::<P>(), |command, verb| {
        command.mut_subcommand(verb, |of| hyper::explained::<P::Hyper>(of, |_| true))
    });
    let published = published.into_iter().chain(uses).filter(|_| P::PUBLISHED);
    published.fold(command, explained).mut_subcommands(hyper::brief).after_help(start::<P>())
}

/// The lines below the help: how to begin.
fn start<P: Paper>() -> String {
    let weights = hyper::blank::<P::Hyper>().ok().and_then(|h| match h.weights() {
        Weights::Must(published) => published.fetch.first().map(|name| format!(" --weights {}", catalog::file(name))),
        _ => None,
    });
    let mut tables: Vec<&str> = P::STUDIES.iter().map(|study| study.name).collect();
    tables.dedup();
    let train = format!("train{}{}, then evaluate --run DIR", P::TRAIN, weights.unwrap_or_default());
    let tables = (!tables.is_empty()).then(|| format!("reproduce --table {}", tables.join("|")));
    let rows = [("Quick start", "reproduce --data drawn".to_string()), ("The paper", train)].into_iter();
    let rows = rows.chain(tables.map(|tables| ("Its tables", tables)));
    let rows = rows.chain(P::START.iter().map(|&(what, line)| (what, line.to_string())));
    let lines: Vec<String> = rows.map(|(what, line)| format!("{:<14}{} {line}", format!("{what}:"), P::NAME)).collect();
    let note = if P::NOTE.is_empty() { String::new() } else { format!("\n\n{}", P::NOTE) };
    lines.join("\n") + &note
}

/// The same, without what people alone read: the defaults that hang on others.
pub(super) fn plain<P: Paper>() -> Command {
    let command = Command::new(P::NAME).version(env!("CARGO_PKG_VERSION")).about(P::CITATION);
    let command = Verb::<P::Hyper, P::Scoring>::augment_subcommands(command.subcommand_required(true));
    let brings = clap::Arg::new("brings").required(true).value_parser(clap::value_parser!(PathBuf));
    let brings = match P::BRINGS {
        Brings::Images => brings
            .long("images")
            .value_name("DIR|FILE")
            .num_args(1..)
            .help("What is to be embedded: images, or folders that are searched with their subfolders"),
        Brings::Videos => brings
            .long("videos")
            .value_name("DIR")
            .help("Folder of what is to be embedded, searched with its subfolders"),
    };
    let seen = |verb: Command| hyper::optional::<P::Hyper>(verb, Heading::Data, |flag| P::SEEN.contains(&flag));
    let command = command
        .mut_subcommand("embed", with_weights::<P>)
        .mut_subcommand("export", with_weights::<P>)
        .mut_subcommand("evaluate", with_weights::<P>)
        .mut_subcommand("evaluate", |verb| baselines::<P>(hyper::optional::<P::Hyper>(verb, Heading::Data, |_| true)))
        .mut_subcommand("embed", |verb| seen(verb.arg(brings)))
        .mut_subcommand("export", seen)
        .mut_subcommand("data", |verb| {
            hyper::optional::<P::Hyper>(verb, Heading::Data, |_| true).mut_arg("data", |arg| arg.required(true))
        });
    let command = ["evaluate", "embed", "export"].into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |command| verbs::helped::<P::Scoring>(command, verb))
    });
    let no_photos = |verb: Command| {
        verb.mut_args(|arg| {
            let idle = P::BRINGS == Brings::Videos && ["skip_unreadable", "kept"].contains(&arg.get_id().as_str());
            if idle { arg.hide(true) } else { arg }
        })
    };
    let command = ["reproduce", "train", "embed"]
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, no_photos));
    // One split and several are not asked for at once; a hyperparameter of that name keeps it.
    let flags = hyper::flags(&hyper::blank::<P::Hyper>().ok());
    let several = |arg: clap::Arg| match (flags.contains_key(hyper::SPLIT), flags.contains_key("splits")) {
        (_, true) => arg.long("several-splits").hide(true),
        (true, false) => arg.conflicts_with(hyper::SPLIT),
        (false, false) => arg,
    };
    let command = command.mut_subcommand("reproduce", |verb| verb.mut_arg("several-splits", several));
    // Verbs that print a table, and those that take the flags of a run.
    let command = ["reproduce", "evaluate", "data", "report", "compare"]
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |verb| verb.arg(shell::json_flag())));
    let command = ["reproduce", "train"]
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |verb| verb.arg(shell::config_flag())));
    let command = command.mut_subcommand("reproduce", |verb| verb.mut_arg("config", |arg| arg.conflicts_with("table")));
    let command = P::USES.iter().fold(command, |command, verb| {
        let own = hyper::some::<P::Scoring>(Using::augment_args(Command::new(verb.name)), verb.scoring);
        let own = own.arg(shell::json_flag());
        command.subcommand(seen(with_weights::<P>((verb.flags)(own))))
    });
    let own = P::OWN.iter().map(|&(name, what, flags, _)| flags(Command::new(name)).about(what));
    command.subcommands(own).about(P::CITATION)
}

/// A verb with `--weights` and the network's flags in place of `--run`, where the paper's published weights are a network.
fn with_weights<P: Paper>(verb: Command) -> Command {
    if !P::PUBLISHED {
        let refused = |_: &str| {
            Err::<String, _>("such are a backbone, not the whole network: train with --weights, then say --run DIR")
        };
        let weights = clap::Arg::new("weights").long("weights").value_name("FILE").hide(true).value_parser(refused);
        return verb.mut_arg("run", |run| run.required(true)).arg(weights);
    }
    let network = hyper::under::<P::Hyper>(Heading::Network);
    // One of the two is required, and said as that.
    let made = clap::ArgGroup::new("made").args(["run", "weights"]).required(true);
    hyper::optional::<P::Hyper>(verb, Heading::Network, |_| true).group(made).mut_args(|arg| match arg.get_long() {
        Some("untrained" | "best") => arg.conflicts_with("weights"),
        Some("weights") => {
            arg.value_name("FILE").help("Published weights of the whole network, in place of a run (into data/runs/)")
        }
        Some(flag) if network.iter().any(|known| known == flag) => arg.requires("weights").conflicts_with("run"),
        _ => arg,
    })
}

/// `evaluate` with `--baselines` in place of `--run`, where the paper has any.
fn baselines<P: Paper>(verb: Command) -> Command {
    let Some((what, _)) = P::BASELINES else { return verb };
    let flag = clap::Arg::new("baselines").long("baselines").action(clap::ArgAction::SetTrue).requires("data");
    let flag = flag.conflicts_with_all(["run", "untrained", "best"]).help_heading(Heading::Scoring);
    verb.arg(flag.help(format!("Score {what} on --data instead of a run: what a network has to beat")))
        .mut_group("made", |made| made.arg("baselines"))
}
