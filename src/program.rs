//! A paper's program: the command line and the verbs, which stand here, once.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Command, FromArgMatches, Subcommand};
use serde_json::{Value, json};

use crate::device::machine::{Machine, MachineFlags, SharedFlags, TrainingFlags};
use crate::hyper::{self, All, Flags, Typed};
use crate::outputs::{check_out, write_json};
use crate::paper::{self, Brings, Paper, Stand};
use crate::run::Run;
use crate::run::config::typed_as;
use crate::run::stop::{self, Stopped};
use crate::say::{answer, note, print};
use crate::tasks::brought::{Asked, Brought, Use};
use crate::tasks::kept::Keeping;
use crate::tasks::{Data, embed};
use crate::{claims, runs, shell, tables, verbs};

/// Flags of `train` and `reproduce`.
#[derive(Args)]
struct Training<H: Args> {
    /// Run folder [default: data/runs/PAPER/ and a name made from the flags]
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    run: Option<PathBuf>,
    #[command(flatten)]
    hyper: All<H>,
    #[command(flatten)]
    machine: TrainingFlags,
}

#[derive(Args)]
struct Reproduce<H: Args, S: Args> {
    /// A table or figure of the paper instead of one run, each cell in a run folder of its own
    #[arg(long, value_name = "NAME", help_heading = "Study")]
    table: Option<String>,
    /// Train with each of these seeds, e.g. 1,2,3 or 1-3, and average
    #[arg(long, value_name = "LIST", conflicts_with = "seed", help_heading = "Study")]
    seeds: Option<String>,
    /// Train and test on each of these splits of a set that has several, e.g. 1-20, and average
    #[arg(id = "several-splits", long = "splits", value_name = "LIST", help_heading = "Study")]
    splits: Option<String>,
    /// List what it needs instead: data, weights, steps, memory, and hours on this machine by some steps of each kind
    #[arg(long, help_heading = "Study")]
    plan: bool,
    /// Only these rows of the table, e.g. the first and third: 1,3, or by what they are called
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "table", help_heading = "Study")]
    only: Vec<String>,
    #[command(flatten)]
    training: Training<H>,
    #[command(flatten)]
    scoring: S,
}

/// What `evaluate`, `embed` and `export` work with; [`published`] says what may stand in its place.
#[derive(Args)]
struct Made {
    /// Run folder that train made
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    run: Option<PathBuf>,
    /// Take the network as training found it instead: what training was worth (scores and models go into DIR/untrained)
    #[arg(long, help_heading = "Scoring")]
    untrained: bool,
    /// Take the best checkpoint by the scores of train --score-every, not the newest (scores and models go into DIR/best)
    #[arg(long, conflicts_with = "untrained", help_heading = "Scoring")]
    best: bool,
}

#[derive(Args)]
struct Evaluate<S: Args> {
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    machine: SharedFlags,
    #[command(flatten)]
    scoring: S,
}

#[derive(Args)]
struct Embed<S: Args> {
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    keeping: Keeping,
    /// File to write, .safetensors (names in its metadata), .npz or .csv by its ending: a row an image or video
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    machine: MachineFlags,
    #[command(flatten)]
    scoring: S,
}

#[derive(Args)]
struct Export<S: Args> {
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    machine: MachineFlags,
    #[command(flatten)]
    scoring: S,
}

#[derive(Args)]
struct Using {
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    machine: MachineFlags,
}

#[derive(Args)]
struct Card {
    /// Also write the card as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct Written {
    /// Run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
}

#[derive(Args)]
struct Compare {
    /// Run folders, two or more
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Page to write
    #[arg(long, value_name = "FILE.html", default_value = "compare.html")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Verb<H: Args, S: Args> {
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

/// The command line of a paper.
pub fn command<P: Paper>() -> Command {
    let command = Command::new(P::NAME).version(env!("CARGO_PKG_VERSION")).about(P::CITATION).after_help(P::START);
    let command = Verb::<P::Hyper, P::Scoring>::augment_subcommands(command.subcommand_required(true));
    let command = ["reproduce", "train"]
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, hyper::explained::<P::Hyper>));
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
    let seen = |verb: Command| hyper::optional::<P::Hyper>(verb, "Data", |flag| P::SEEN.contains(&flag));
    let command = command
        .mut_subcommand("embed", published::<P>)
        .mut_subcommand("export", published::<P>)
        .mut_subcommand("evaluate", published::<P>)
        .mut_subcommand("evaluate", |verb| baselines::<P>(hyper::optional::<P::Hyper>(verb, "Data", |_| true)))
        .mut_subcommand("embed", |verb| seen(verb.arg(brings)))
        .mut_subcommand("export", seen)
        .mut_subcommand("data", |verb| {
            hyper::optional::<P::Hyper>(verb, "Data", |_| true).mut_arg("data", |arg| arg.required(true))
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
    let several = |arg: clap::Arg| match (flags.contains_key("split"), flags.contains_key("splits")) {
        (_, true) => arg.long("several-splits").hide(true),
        (true, false) => arg.conflicts_with("split"),
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
        command.subcommand(seen(published::<P>((verb.flags)(own))))
    });
    let own = P::OWN.iter().map(|&(name, what, flags, _)| flags(Command::new(name)).about(what));
    command.subcommands(own).about(P::CITATION)
}

/// A verb with `--weights` and the network's flags in place of `--run`, where the paper's published weights are a network.
fn published<P: Paper>(verb: Command) -> Command {
    if !P::PUBLISHED {
        let refused = |_: &str| {
            Err::<String, _>("such are a backbone, not the whole network: train with --weights, then say --run DIR")
        };
        let weights = clap::Arg::new("weights").long("weights").value_name("FILE").hide(true).value_parser(refused);
        return verb.mut_arg("run", |run| run.required(true)).arg(weights);
    }
    let network = hyper::under::<P::Hyper>("Network");
    // One of the two is required, and said as that.
    let made = clap::ArgGroup::new("made").args(["run", "weights"]).required(true);
    hyper::optional::<P::Hyper>(verb, "Network", |_| true).group(made).mut_args(|arg| match arg.get_long() {
        Some("untrained" | "best") => arg.conflicts_with("weights"),
        Some("weights") => {
            arg.value_name("FILE").help("Published weights of the whole network, in place of a run (into data/runs/)")
        }
        Some(flag) if network.iter().any(|known| known == flag) => arg.requires("weights").conflicts_with("run"),
        _ => arg,
    })
}

/// The run that a verb works with, or the published weights; what cannot be scored so is refused.
fn chosen<P: Paper>(
    made: Made,
    machine: Machine,
    how: &P::Scoring,
    (verb, of): (&str, &clap::ArgMatches),
) -> Result<(paper::Opened<P>, Run)> {
    let whose = if made.run.is_some() { Typed::Before } else { Typed::Here };
    let scoring = hyper::typed::<P::Scoring>(of)?;
    verbs::refuse_idle::<P::Scoring>(verb, &scoring)?;
    let (mut opened, run) = match made.run {
        Some(at) => paper::opened::<P>(&at, machine)?,
        None => {
            let network = hyper::under::<P::Hyper>("Network");
            let typed = hyper::typed::<P::Hyper>(of)?.into_iter().filter(|(name, _)| network.contains(name));
            paper::published::<P>(hyper::resolved(&typed.collect())?, machine)?
        }
    };
    if made.untrained {
        opened.stand = Stand::Untrained;
    } else if made.best {
        opened.stand = Stand::Best;
    }
    tables::scorable::<P>(&opened.h.own, how, &scoring, whose)?;
    Ok((opened, run))
}

/// `evaluate` with `--baselines` in place of `--run`, where the paper has any.
fn baselines<P: Paper>(verb: Command) -> Command {
    let Some((what, _)) = P::BASELINES else { return verb };
    let flag = clap::Arg::new("baselines").long("baselines").action(clap::ArgAction::SetTrue).requires("data");
    let flag = flag.conflicts_with_all(["run", "untrained", "best"]).help_heading("Scoring");
    verb.arg(flag.help(format!("Score {what} on --data instead of a run: what a network has to beat")))
        .mut_group("made", |made| made.arg("baselines"))
}

/// The verb `sound`, which only tests know. Checks the rows of a paper's tables: every flag that they name exists and has a place, every recipe is one of its
/// flags'. Prints what a test needs: the names of the scores that claims and tables are of.
fn sound<P: Paper>() -> Result<()> {
    hyper::sound::<P::Hyper, P::Scoring>()?;
    verbs::sound::<P::Scoring>()?;
    let mut named = std::collections::BTreeSet::new();
    for table in P::CLAIMS {
        for (place, besides, _, cells) in table.rows {
            let fits = cells.len() <= table.columns.len() && cells.iter().all(|cell| cell.len() <= table.metrics.len());
            ensure!(fits, "{place} {besides}: more numbers than the table has columns or metrics");
        }
    }
    for cell in claims::cells(P::CLAIMS) {
        hyper::paper(&cell.sets)?;
        named.extend(cell.numbers.into_iter().map(|(name, _)| name));
    }
    for study in P::STUDIES {
        for cells in study.sheets.iter().flat_map(|sheet| sheet.cells) {
            named.extend(cells.1.iter().map(|name| name.to_string()));
        }
        let heads = if study.columns.is_empty() { study.sheets[0].cells.len() } else { study.columns.len() };
        for (name, _, cells) in study.rows {
            ensure!(cells.len() <= heads, "table {}: {name}: more cells than the table has columns", study.name);
        }
        for row in study.variants().iter().chain(study.columns) {
            hyper::paper(&[row.1]).with_context(|| format!("table {}: {}", study.name, row.0))?;
        }
    }
    let flags: Vec<String> =
        hyper::flags(&hyper::blank::<All<P::Hyper>>()?).into_iter().map(|(name, _)| name).collect();
    let tables: std::collections::BTreeSet<&str> = P::STUDIES.iter().map(|study| study.name).collect();
    print(json!({"flags": flags, "scores": named, "tables": tables}))
}

/// Runs a program's work and turns its end into an exit code: 0; 2 after a line that says what is wrong with the command
/// line; 1 after a line that names any other cause; 128 and a signal's number where one ended a training. A panic is a
/// defect of ours and is answered in one line too.
fn ended(work: impl FnOnce() -> Result<()>) -> ExitCode {
    crate::device::memory::keep();
    crate::say::panics();
    crate::say::warnings();
    // A file that grows beyond `ulimit -f` is then an error like a full disk.
    // SAFETY: no handler of ours is called.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    crate::collectives::exit(match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {
            crate::collectives::finish();
            0
        }
        Ok(Err(error)) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                stopped.say();
                crate::collectives::finish();
                128 + stopped.signal
            } else {
                crate::collectives::fail(&crate::say::one_line(&error));
                if error.is::<hyper::Usage>() { 2 } else { 1 }
            }
        }
        Err(_) => {
            crate::collectives::leave("a defect of rankle");
            1
        }
    })
}

/// A paper's program: its command line, its verb, its end.
pub fn main<P: Paper>() -> ExitCode {
    if std::env::args().skip(1).eq(["sound".to_string()]) {
        return ended(sound::<P>);
    }
    let matches = command::<P>().try_get_matches().unwrap_or_else(|error| crate::say::misused(&error));
    ended(|| {
        stop::answer()?;
        let (name, of) = matches.subcommand().context("no verb")?;
        if matches!(of.try_get_one::<bool>("json"), Ok(Some(true))) {
            crate::say::answer_alone();
        }
        if let Some(verb) = P::USES.iter().find(|verb| verb.name == name) {
            return use_of::<P>(verb, of);
        }
        if let Some((_, _, _, work)) = P::OWN.iter().find(|verb| verb.0 == name) {
            return work(of);
        }
        if matches!(of.try_get_one::<bool>("baselines"), Ok(Some(true))) {
            let looks = |flag: &&String| P::BASELINES.is_some_and(|(_, flags)| flags.contains(&&***flag));
            let idle = hyper::typed::<P::Scoring>(of)?.keys().find(|flag| !looks(flag)).cloned();
            let idle = idle.map(|flag| anyhow!("--{flag} has no effect on --baselines: leave it out"));
            idle.map_or(Ok(()), |error| Err(hyper::usage(error)))?;
            let h = hyper::resolve::<P::Hyper>(&hyper::typed::<P::Hyper>(of)?, &|_| ()).map_err(hyper::usage)?;
            let data = P::open(&h.own, h.usual.seed)?;
            data.notes().iter().for_each(note);
            data.check(false, Duration::MAX)?;
            let tables = P::baselines(&data, &P::Scoring::from_arg_matches(of)?)?;
            answer(&tables.iter().map(|(title, table)| (title.clone(), json!(table.named()))).collect::<Flags>())?;
            return tables.iter().try_for_each(|(title, table)| print(format!("{title}\n{table}")));
        }
        match Verb::<P::Hyper, P::Scoring>::from_arg_matches(&matches)? {
            Verb::Train(args) => {
                let h = shell::asked::<P>(of)?;
                let run = paper::run_of(&h, args.machine.resolve_world()?);
                let at = args.run.unwrap_or_else(|| hyper::folder(P::NAME, &h));
                run.world().agree(paper::RUN, &at)?;
                let data = paper::opened_data::<P>(&h, &run.machine, Some(&at))?;
                paper::train::<P>(&h, &data, &at, &run)?;
                print(format!("trained: {0}\nnext: {1} evaluate --run {0}", at.display(), P::NAME))
            }
            Verb::Reproduce(args) => reproduce::<P>(args, of),
            Verb::Evaluate(args) => evaluate_verb::<P>(args, of),
            Verb::Embed(args) => {
                let videos =
                    P::BRINGS == Brings::Videos && (args.keeping.skip_unreadable || args.keeping.kept.is_some());
                ensure!(
                    !videos,
                    hyper::usage(anyhow!("--skip-unreadable, --kept: these are of photos: leave them out"))
                );
                let machine = args.machine.resolve()?;
                let (opened, mut run) = to_embed::<P>(args.made, machine, &args.scoring, (name, of))?;
                run.machine.skip_unreadable = args.keeping.skip_unreadable;
                let out = embed::check_out(&args.out)?;
                let paths: Vec<PathBuf> = of.get_many("brings").context("no folder")?.cloned().collect();
                let photos = if P::BRINGS == Brings::Images { Brought::photos(&paths)? } else { Vec::new() };
                let nets = opened.nets(&run);
                keeps::<P>(&args.keeping, &nets, &args.scoring, &run)?;
                let (made, known) = nets.made(&args.scoring)?;
                let mut beside = args.out.clone().into_os_string();
                beside.push(".kept");
                let kept = (!photos.is_empty()).then(|| args.keeping.folder(beside.into(), &known));
                let of = Brought { paths, photos, features: true, kept };
                let mut found = P::embed(&opened.h.own, &nets, &of, &args.scoring, &run)?;
                found.metadata.push(("made".into(), made.to_string()));
                embed::write(&out, &found)?;
                print(format!("{}: {}", found.what, args.out.display()))
            }
            Verb::Export(args) => {
                let (opened, run) = to_embed::<P>(args.made, args.machine.resolve()?, &args.scoring, (name, of))?;
                paper::export_run(&opened.nets(&run), &args.scoring)
            }
            Verb::Report(args) => runs::report::<P>(&args.run),
            Verb::Compare(args) => runs::compare::<P>(&args.runs, &args.out),
            Verb::Completions { shell } => shell::completions(command::<P>(), shell),
            Verb::Man { verb } => shell::man(command::<P>(), verb.as_deref()),
            Verb::Data(args) => {
                let h = hyper::resolve::<P::Hyper>(&hyper::typed::<P::Hyper>(of)?, &|_| ()).map_err(hyper::usage)?;
                let out = args.out.as_deref().map(|out| check_out(out, "card")).transpose()?;
                let data = P::open(&h.own, h.usual.seed)?;
                let mut cards = data.cards();
                if let [card] = &mut cards[..] {
                    let refused = data.trainable().and_then(|()| P::parts(&h.own, &data)).err();
                    card.refused = refused.map(|error| crate::say::one_line(&error)).or(card.refused.take());
                }
                cards.iter().try_for_each(print)?;
                let value = if let [card] = &cards[..] { json!(card) } else { json!(cards) };
                answer(&value)?;
                match out {
                    Some(out) => write_json(&out, "card", &value),
                    None => Ok(()),
                }
            }
        }
    })
}

/// [`chosen`] for what embeds or will: a photo is seen as typed, or as the run saw it.
fn to_embed<P: Paper>(
    made: Made,
    machine: Machine,
    how: &P::Scoring,
    of: (&str, &clap::ArgMatches),
) -> Result<(paper::Opened<P>, Run)> {
    let (mut opened, run) = chosen::<P>(made, machine, how, of)?;
    let seen = hyper::typed::<P::Hyper>(of.1)?.into_iter().filter(|(flag, _)| P::SEEN.contains(&&**flag));
    opened.h.own = hyper::with(&opened.h.own, &seen.collect()).map_err(hyper::usage)?;
    Ok((opened, run))
}

/// Refuses `--kept` where the network compares two photos: it says nothing of one that could be kept.
fn keeps<P: Paper>(keeping: &Keeping, nets: &paper::Nets<'_, P>, how: &P::Scoring, run: &Run) -> Result<()> {
    let of_pairs = keeping.kept.is_some() && P::search(nets, [&[], &[]], how, run)?.is_some();
    ensure!(
        !of_pairs,
        hyper::usage(anyhow!("--kept: this network compares two photos, of which nothing is kept: leave it out"))
    );
    Ok(())
}

/// A verb that does with a network what it is for.
fn use_of<P: Paper>(verb: &Use, of: &clap::ArgMatches) -> Result<()> {
    let (args, typed) = (Using::from_arg_matches(of)?, hyper::typed::<P::Scoring>(of)?);
    let how: P::Scoring = hyper::with(&hyper::blank::<P::Scoring>()?, &typed).map_err(hyper::usage)?;
    // The verb's own command line has no flags that it does not look at.
    let (opened, mut run) = to_embed::<P>(args.made, args.machine.resolve()?, &how, ("evaluate", of))?;
    run.machine.skip_unreadable = args.keeping.skip_unreadable;
    let nets = opened.nets(&run);
    keeps::<P>(&args.keeping, &nets, &how, &run)?;
    let (made, known) = nets.made(&how)?;
    let out = of.get_one::<PathBuf>("out").context("no folder")?;
    let brought = |photos| {
        let kept = Some(args.keeping.folder(out.join("kept"), &known));
        Brought { photos, kept, ..Brought::default() }
    };
    let asked = Asked {
        paper: (P::NAME, P::CITATION),
        embed: &|photos| P::embed(&opened.h.own, &nets, &brought(photos), &how, &run),
        compare: &|query, gallery| P::search(&nets, [query, gallery], &how, &run),
        metric: (P::METRIC)(&opened.h.own),
        skip_unreadable: args.keeping.skip_unreadable,
        made,
    };
    (verb.work)(&asked, of)
}

fn evaluate_verb<P: Paper>(args: Evaluate<P::Scoring>, of: &clap::ArgMatches) -> Result<()> {
    let (opened, run) = chosen::<P>(args.made, args.machine.resolve_world()?, &args.scoring, ("evaluate", of))?;
    let h = &opened.h;
    let others = hyper::under::<P::Hyper>("Data");
    let typed: Flags = hyper::typed::<P::Hyper>(of)?.into_iter().filter(|(name, _)| others.contains(name)).collect();
    let outside = opened.stand == Stand::Published;
    ensure!(
        !outside || typed.contains_key("data"),
        hyper::usage(anyhow!("--weights: say --data DIR: what to score it on"))
    );
    let (data, at) = if typed.is_empty() {
        (P::open(&h.own, run.seed)?, opened.at.clone())
    } else {
        // The run keeps the scores of its own data.
        let mut changes = typed.clone();
        if typed.contains_key("data") {
            let usual = hyper::flags(&hyper::resolve::<P::Hyper>(&typed, &|_| ()).map_err(hyper::usage)?);
            changes.extend(usual.into_iter().filter(|(name, _)| others.contains(name)));
        }
        let other: P::Hyper = hyper::with(&h.own, &changes).map_err(hyper::usage)?;
        let data = P::elsewhere(&h.own, &other, run.seed)?;
        ensure!(
            P::shape(&other, &data)? == opened.shape,
            "{}: the run was trained for other data than these",
            data.name()
        );
        let more = typed.iter().filter(|(name, _)| *name != "data");
        let more: String = more.map(|(name, value)| format!("-{name}{}", typed_as(value).replace('/', "-"))).collect();
        let at = opened.at.join(format!("on-{}{more}", data.name()));
        (data, at)
    };
    data.notes().iter().for_each(note);
    data.check(false, Duration::MAX)?;
    let at = opened.stand.folder(at);
    let mut nets = opened.nets(&run);
    nets.elsewhere = (!typed.is_empty()).then_some(typed).map(|mut of| {
        // Two sets may have one name.
        let full = of.get("data").and_then(Value::as_str).and_then(|data| Path::new(data).canonicalize().ok());
        of.extend(full.map(|full| ("data".to_string(), Value::from(full.to_string_lossy()))));
        of
    });
    let (results, found) = paper::evaluate::<P>(&nets, &data, &at, &args.scoring)?;
    results.show(&found.tables, &[])
}

fn reproduce<P: Paper>(args: Reproduce<P::Hyper, P::Scoring>, of: &clap::ArgMatches) -> Result<()> {
    let machine = args.training.machine.resolve()?;
    if args.table.is_some() || args.splits.is_some() || args.seeds.is_some() || args.plan {
        let mut typed = hyper::typed::<All<P::Hyper>>(of)?;
        for (name, value) in shell::configured::<P>(of)? {
            // Those of several are gone through.
            if !(name == "split" && args.splits.is_some() || name == "seed" && args.seeds.is_some()) {
                typed.entry(name).or_insert(value);
            }
        }
        let wish = tables::Wish {
            run: args.training.run,
            typed,
            scoring: hyper::typed::<P::Scoring>(of)?,
            seeds: args.seeds,
            splits: args.splits,
            only: args.only,
            plan: args.plan,
        };
        return match args.table {
            None => tables::one::<P>(&wish, &machine),
            Some(name) => tables::named::<P>(&name, &wish, &machine),
        };
    }
    let h = shell::asked::<P>(of)?;
    let scoring = hyper::typed::<P::Scoring>(of)?;
    tables::scorable::<P>(&h.own, &args.scoring, &scoring, Typed::Here)?;
    let run = paper::run_of(&h, machine);
    let at = args.training.run.unwrap_or_else(|| hyper::folder(P::NAME, &h));
    let data = paper::opened_data::<P>(&h, &run.machine, Some(&at))?;
    paper::train::<P>(&h, &data, &at, &run)?;
    let (opened, run) = paper::opened::<P>(&at, run.machine)?;
    let nets = opened.nets(&run);
    let (results, found) = paper::evaluate::<P>(&nets, &data, &at, &args.scoring)?;
    let rivals = P::rivals(&opened.h.own, &data, &nets, &found, &args.scoring, &run)?;
    results.show(&found.tables, &rivals)?;
    paper::export_run(&nets, &args.scoring)
}

/// The `main` of a paper's binary.
#[macro_export]
macro_rules! program {
    ($paper:ty) => {
        #[global_allocator]
        static MEMORY: $crate::device::memory::Spoken = $crate::device::memory::Spoken;

        fn main() -> std::process::ExitCode {
            $crate::program::main::<$paper>()
        }
    };
}
