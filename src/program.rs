//! A paper's program: the command line, the verbs, and the tables that compare runs. The verbs stand here, once.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Command, FromArgMatches, Subcommand};
use serde_json::{Map, Value, json};

use crate::device::machine::{Machine, MachineFlags, TrainingFlags};
use crate::hyper::{self, All, Flags, Hyper, Typed};
use crate::needs::{self, Planned};
use crate::outputs::{self, check_out, write_json};
use crate::paper::{self, Paper, Stand};
use crate::report::{Report, Table};
use crate::run::Run;
use crate::run::config::typed_as;
use crate::run::folder::REPORT;
use crate::run::stop::{self, Stopped};
use crate::say::{answer, note, print, say};
use crate::study::{self, Grid, Sheet, Study, Variant};
use crate::tasks::brought::{Asked, Brought, Use};
use crate::tasks::kept::Keeping;
use crate::tasks::{Data, embed};
use crate::{claims, runs, shell, verbs};

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
    machine: MachineFlags,
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
    let brings = clap::Arg::new("brings").long(P::BRINGS).required(true).value_parser(clap::value_parser!(PathBuf));
    let brings = match P::BRINGS {
        "images" => brings
            .value_name("DIR|FILE")
            .num_args(1..)
            .help("What is to be embedded: images, or folders that are searched with their subfolders"),
        _ => brings.value_name("DIR").help("Folder of what is to be embedded, searched with its subfolders"),
    };
    let seen = |verb: Command| hyper::optional::<P::Hyper>(verb, "Data", |flag| P::SEEN.contains(&flag));
    let command = command
        .mut_subcommand("embed", published::<P>)
        .mut_subcommand("export", published::<P>)
        .mut_subcommand("evaluate", published::<P>)
        .mut_subcommand("evaluate", |verb| baselines::<P>(hyper::optional::<P::Hyper>(verb, "Data", |_| true)))
        .mut_subcommand("embed", |verb| seen(verb.arg(brings)))
        .mut_subcommand("data", |verb| {
            hyper::optional::<P::Hyper>(verb, "Data", |_| true).mut_arg("data", |arg| arg.required(true))
        });
    let command = ["evaluate", "embed", "export"].into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |command| verbs::helped::<P::Scoring>(command, verb))
    });
    let no_photos = |verb: Command| {
        verb.mut_args(|arg| {
            let idle = P::BRINGS != "images" && ["skip_unreadable", "kept"].contains(&arg.get_id().as_str());
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
    // What stands above an enum of verbs would take the place of the citation.
    P::Own::augment_subcommands(command).about(P::CITATION)
}

/// A verb with `--weights` and the network's flags in place of `--run`, where the paper's published weights are a network.
fn published<P: Paper>(verb: Command) -> Command {
    if P::PUBLISHED.is_none() {
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
    scorable::<P>(&opened.h.own, how, &scoring, whose)?;
    Ok((opened, run))
}

/// Refuses flags of scoring that do not go with a run of `h`.
fn scorable<P: Paper>(h: &P::Hyper, how: &P::Scoring, typed: &Flags, whose: Typed) -> Result<()> {
    hyper::refuse_idle(h, typed, whose).and_then(|()| P::check_scoring(h, how)).map_err(hyper::usage)
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
    for block in P::CLAIMS {
        for &(_, _, at, score, numbers) in block.rows {
            hyper::paper(at)?;
            named.extend(claims::scores(block.metrics, score, numbers).map(|(name, _)| name));
        }
    }
    for study in P::STUDIES {
        for cells in study.sheets.iter().flat_map(|sheet| sheet.cells) {
            named.extend(cells.1.iter().map(|name| name.to_string()));
        }
        for row in study.rows.iter().chain(study.columns) {
            hyper::paper(row.1).with_context(|| format!("table {}: {}", study.name, row.0))?;
        }
    }
    let flags: Vec<String> =
        hyper::flags(&hyper::blank::<All<P::Hyper>>()?).into_iter().map(|(name, _)| name).collect();
    let tables: Vec<&str> = P::STUDIES.iter().map(|study| study.name).collect();
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
        if !Verb::<P::Hyper, P::Scoring>::has_subcommand(name) {
            return P::own(P::Own::from_arg_matches(&matches)?);
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
                let videos = P::BRINGS != "images" && (args.keeping.skip_unreadable || args.keeping.kept.is_some());
                ensure!(
                    !videos,
                    hyper::usage(anyhow!("--skip-unreadable, --kept: these are of photos: leave them out"))
                );
                let machine = args.machine.resolve()?;
                let (opened, mut run) = to_embed::<P>(args.made, machine, &args.scoring, (name, of))?;
                run.machine.skip_unreadable = args.keeping.skip_unreadable;
                let out = embed::check_out(&args.out)?;
                let paths: Vec<PathBuf> = of.get_many("brings").context("no folder")?.cloned().collect();
                let photos = if P::BRINGS == "images" { Brought::photos(&paths)? } else { Vec::new() };
                let nets = opened.nets(&run);
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
                let (opened, run) = chosen::<P>(args.made, args.machine.resolve()?, &args.scoring, (name, of))?;
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

/// [`chosen`] for what embeds: a photo is seen as typed, or as the run saw it.
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

/// A verb that does with a network what it is for.
fn use_of<P: Paper>(verb: &Use, of: &clap::ArgMatches) -> Result<()> {
    let (args, typed) = (Using::from_arg_matches(of)?, hyper::typed::<P::Scoring>(of)?);
    let how: P::Scoring = hyper::with(&hyper::blank::<P::Scoring>()?, &typed).map_err(hyper::usage)?;
    // The verb's own command line has no flags that it does not look at.
    let (opened, mut run) = to_embed::<P>(args.made, args.machine.resolve()?, &how, ("evaluate", of))?;
    run.machine.skip_unreadable = args.keeping.skip_unreadable;
    let nets = opened.nets(&run);
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
        metric: P::metric(&opened.h.own),
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
        let wish = Wish {
            run: args.training.run,
            typed,
            scoring: hyper::typed::<P::Scoring>(of)?,
            seeds: args.seeds,
            splits: args.splits,
            only: args.only,
            plan: args.plan,
        };
        let known = || P::STUDIES.iter().map(|study| study.name).collect::<Vec<_>>().join(", ");
        return match args.table {
            None => one::<P>(&wish, &machine),
            Some(name) => match P::STUDIES.iter().find(|study| study.name == name) {
                Some(study) => grid::<P>(study, &wish, &machine),
                None => Err(hyper::usage(anyhow::anyhow!("--table {name}: this paper has {}", known()))),
            },
        };
    }
    let h = shell::asked::<P>(of)?;
    let scoring = hyper::typed::<P::Scoring>(of)?;
    scorable::<P>(&h.own, &args.scoring, &scoring, Typed::Here)?;
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

/// What the command line asks of a study.
#[derive(Debug, Clone)]
struct Wish {
    run: Option<PathBuf>,
    typed: Flags,
    scoring: Flags,
    seeds: Option<String>,
    splits: Option<String>,
    only: Vec<String>,
    plan: bool,
}

/// One row: the run of the command line, over seeds and splits.
fn one<P: Paper>(wish: &Wish, machine: &Machine) -> Result<()> {
    let study = Study::<P::Hyper, P::Scoring> {
        name: "runs",
        title: "Mean ± standard deviation over seeds and splits",
        fixed: |_, _| (),
        rows: &[("ours", |_, _| ())],
        columns: &[],
        sheets: &[],
        says: study::silent,
    };
    grid::<P>(&study, wish, machine)
}

/// The seeds or splits of a list: numbers, ranges as 1-10, other words as they are.
fn listed(flag: &str, list: &str) -> Result<Vec<String>> {
    const MOST: usize = 1000;
    ensure!(!list.contains(';'), hyper::usage(anyhow!("--{flag} {list}: put commas between, as 1,2,5-9")));
    let mut all = Vec::new();
    for part in list.split(',') {
        match part.split_once('-').map(|(from, to)| (from.parse::<usize>(), to.parse::<usize>())) {
            Some((Ok(from), Ok(to))) if from > 0 && from <= to && to - from < MOST => {
                all.extend((from..=to).map(|number| number.to_string()));
            }
            Some(_) => return Err(hyper::usage(anyhow!("--{flag} {part}: say a range as 1-10"))),
            None => all.push(part.to_string()),
        }
    }
    match (1..all.len()).find(|&i| all[..i].contains(&all[i])) {
        Some(i) => Err(hyper::usage(anyhow!("--{flag}: {} comes twice", all[i]))),
        None => Ok(all),
    }
}

/// The flags of a cell.
struct Cell<H: Hyper, S> {
    h: All<H>,
    scoring: S,
}

/// A run of a study.
struct Job<H: Hyper, S> {
    /// Among the rows that are wanted.
    place: usize,
    column: usize,
    /// Its row and column.
    words: String,
    split: Option<String>,
    h: All<H>,
    scoring: S,
    /// The run's folder.
    at: PathBuf,
    /// That of its scores.
    into: PathBuf,
    /// What it lacks to be begun, where a plan alone is wanted.
    lacks: Option<String>,
}

/// The first refusal, where every cell refuses.
fn some_takes<C>(cells: &[C], refuses: impl Fn(&C) -> Result<()>) -> Result<()> {
    let refused: Vec<_> = cells.iter().map_while(|cell| refuses(cell).err()).collect();
    let all = refused.len() == cells.len();
    refused.into_iter().next().filter(|_| all).map_or(Ok(()), |error| Err(hyper::usage(error)))
}

/// Trains, scores and prints all cells.
fn grid<P: Paper>(study: &Study<P::Hyper, P::Scoring>, wish: &Wish, machine: &Machine) -> Result<()> {
    let nothing: Variant<P::Hyper, P::Scoring> = ("", |_, _| ());
    let columns: Vec<_> = if study.columns.is_empty() { vec![nothing] } else { study.columns.to_vec() };
    let seeds: Vec<Option<u64>> = match &wish.seeds {
        None => vec![None],
        Some(list) => {
            let number = |seed: &String| {
                seed.parse().map(Some).map_err(|_| hyper::usage(anyhow!("--seeds {seed}: say a number")))
            };
            listed("seeds", list)?.iter().map(number).collect::<Result<_>>()?
        }
    };
    let splits: Vec<Option<String>> = match &wish.splits {
        None => vec![None],
        Some(list) => {
            let known = hyper::under::<P::Hyper>("Data").contains(&"split".to_string());
            ensure!(known, hyper::usage(anyhow!("--splits: these data have one split: leave it out")));
            ensure!(!wish.typed.contains_key("split"), hyper::usage(anyhow!("--split and --splits: give one of them")));
            let list = listed("splits", list)?;
            for split in &list {
                let one = Map::from_iter([("split".to_string(), Value::from(split.as_str()))]);
                hyper::resolve::<P::Hyper>(&one, &|_| ())
                    .with_context(|| format!("--splits {split}"))
                    .map_err(hyper::usage)?;
            }
            list.into_iter().map(Some).collect()
        }
    };
    let cell = |row: &Variant<P::Hyper, P::Scoring>, column: &Variant<P::Hyper, P::Scoring>, typed: &Flags| {
        let set =
            |h: &mut P::Hyper, s: &mut P::Scoring| [study.fixed, row.1, column.1].iter().for_each(|set| set(h, s));
        let blank = hyper::blank::<P::Scoring>()?;
        let h = hyper::resolve::<P::Hyper>(typed, &|h| set(h, &mut blank.clone()))?;
        let mut scoring = blank;
        set(&mut h.own.clone(), &mut scoring);
        let scoring = hyper::with(&scoring, &wish.scoring)?;
        Ok::<_, anyhow::Error>(Cell { h, scoring })
    };
    // What the study goes through may not be typed.
    let all: Vec<Cell<_, _>> = study
        .rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| (row, column)))
        .map(|(row, column)| cell(row, column, &Map::new()))
        .collect::<Result<_>>()?;
    let flags: Vec<Flags> = all.iter().map(|cell| hyper::flags(&cell.h)).collect();
    let scorings: Vec<Flags> = all.iter().map(|cell| hyper::flags(&cell.scoring)).collect();
    let set = [study.rows, study.columns].concat();
    let goes_through = through::<P::Hyper, P::Scoring>(&set)?;
    let both = wish.typed.keys().chain(wish.scoring.keys()).find(|name| goes_through.contains(name));
    if let Some(flag) = both {
        let rows = if study.columns.is_empty() { " (--only takes some of its rows)" } else { "" };
        return Err(hyper::usage(anyhow!("--table {} goes through --{flag}: leave it out{rows}", study.name)));
    }
    let named = |name: &str| {
        let same = |row: &&Variant<P::Hyper, P::Scoring>| study::slug(row.0) == study::slug(name);
        study.rows.iter().position(|row| same(&row)).or_else(|| {
            let by_value = |i: &usize| {
                goes_through
                    .iter()
                    .any(|flag| flags[i * columns.len()].get(flag).is_some_and(|value| typed_as(value) == name))
            };
            (0..study.rows.len()).find(by_value)
        })
    };
    let mut rows: Vec<usize> = Vec::new();
    for name in &wish.only {
        let number = name.parse::<usize>().ok().filter(|n| (1..=study.rows.len()).contains(n)).map(|n| n - 1);
        let known = study.rows.iter().map(|row| study::slug(row.0)).collect::<Vec<_>>().join(", ");
        let row = number.or_else(|| named(name)).with_context(|| format!("--only {name}: the rows are {known}"));
        rows.push(row.map_err(hyper::usage)?);
    }
    if rows.is_empty() {
        rows = (0..study.rows.len()).collect();
    }
    rows.sort_unstable();
    rows.dedup();

    // Refused before hours of training: what no row looks at.
    let chosen = || rows.iter().flat_map(|&r| columns.iter().map(move |column| (&study.rows[r], column)));
    let typed: Vec<Cell<_, _>> =
        chosen().map(|(row, column)| cell(row, column, &wish.typed)).collect::<Result<_>>().map_err(hyper::usage)?;
    for (flag, value) in &wish.typed {
        let one = Map::from_iter([(flag.clone(), value.clone())]);
        some_takes(&typed, |cell| hyper::refuse_idle(&cell.h.own, &one, Typed::Here))?;
    }
    some_takes(&typed, |cell| scorable::<P>(&cell.h.own, &cell.scoring, &wish.scoring, Typed::Here))?;

    let data = wish.typed.get("data").or_else(|| flags[0].get("data")).map_or(String::new(), typed_as);
    let root = wish.run.clone().unwrap_or_else(|| {
        let name = format!("table-{}-{}", study.name, hyper::data_name(&data));
        Path::new("data/runs").join(P::NAME).join(if study.sheets.is_empty() { hyper::data_name(&data) } else { name })
    });
    let path = root.join("table.json");
    let both = [path.clone(), root.join(REPORT)];
    let page = format!("{}: {}", P::NAME, study.title);
    outputs::check(&both[0], "table").and_then(|()| outputs::check(&both[1], &page)).context("--run")?;
    let varied: Vec<String> = hyper::varied(&flags).into_iter().filter(|flag| goes_through.contains(flag)).collect();
    let viewed = hyper::varied(&scorings);
    // All runs are known to be sound before the first one trains.
    let mut jobs = Vec::new();
    for (place, &r) in rows.iter().enumerate() {
        let row = &study.rows[r];
        for (c, column) in columns.iter().enumerate() {
            for (split, seed) in splits.iter().flat_map(|split| seeds.iter().map(move |seed| (split, seed))) {
                let mut typed = wish.typed.clone();
                typed.extend(split.clone().map(|split| ("split".to_string(), Value::from(split))));
                typed.extend(seed.map(|seed| ("seed".to_string(), Value::from(seed))));
                // What this row does not look at is for the others.
                let all = cell(row, column, &typed).map_err(hyper::usage)?;
                typed.retain(|name, _| !hyper::is_idle(&all.h.own, name));
                let Cell { h, scoring } = cell(row, column, &typed).map_err(hyper::usage)?;
                let mut lacks = None;
                if let Err(error) = h.own.check() {
                    // A dash is what does not go together by itself, not what was typed.
                    let blank = cell(row, column, &Map::new())?.h.own.check().is_err();
                    if blank && !study.columns.is_empty() {
                        continue;
                    }
                    ensure!(blank && wish.plan, hyper::usage(error));
                    lacks = Some(crate::say::one_line(&error));
                }
                let own = hyper::flags(&h);
                let mut name: Vec<String> = varied.iter().map(|flag| typed_as(&own[flag])).collect();
                name.extend(split.as_ref().map(|split| format!("split{split}")));
                name.push(h.usual.seed.to_string());
                let at = root.join(name.join("-").replace('/', "-"));
                let views = hyper::flags(&scoring);
                let views: Vec<String> =
                    viewed.iter().map(|flag| format!("{flag}-{}", typed_as(&views[flag]))).collect();
                let into = if views.is_empty() { at.clone() } else { at.join(views.join("-")) };
                let words: Vec<&str> = [row.0, column.0].into_iter().filter(|word| !word.is_empty()).collect();
                let words = words.join(", ");
                jobs.push(Job { place, column: c, words, split: split.clone(), h, scoring, at, into, lacks });
            }
        }
    }

    if wish.plan {
        let planned = |job| {
            let Job { words, at, h, lacks, .. }: &Job<_, _> = job;
            Planned { words, at, h, lacks: lacks.as_deref() }
        };
        return needs::print::<P>(&jobs.iter().map(planned).collect::<Vec<_>>(), machine);
    }
    let (mut json_cells, mut reasons, mut departures) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    let mut grid = Grid {
        rows: rows.iter().map(|&r| study.rows[r].0.to_string()).collect(),
        cells: vec![vec![Vec::new(); columns.len()]; rows.len()],
    };
    let mut claimed = vec![Vec::new(); rows.len()];
    for Job { place, column, words, split, h, scoring, at, into, .. } in &jobs {
        say(format!("{words}: {}", at.display()));
        let run = paper::run_of(h, machine.clone());
        let data = paper::opened_data::<P>(h, machine, Some(at))?;
        paper::train::<P>(h, &data, at, &run)?;
        let (results, _) = paper::scored::<P>(at, &run, &data, into, scoring)?;
        reasons.extend(results.not_comparable_because.clone().filter(|why| !reasons.contains(why)));
        let new: Vec<_> = results.departures.iter().filter(|text| !departures.contains(text)).cloned().collect();
        departures.extend(new);
        json_cells.push(json!({
            "row": grid.rows[*place], "column": columns[*column].0, "seed": h.usual.seed, "split": split, "run": at.display().to_string(),
            "scores": results.scores.iter().map(|(name, score)| (name.clone(), json!(score))).collect::<Flags>(),
            "flags": hyper::flags(h), "departures": results.departures,
        }));
        let fair = results.claims.into_iter().filter(|claim| claim.ours.is_some());
        claimed[*place].extend(fair.map(|claim| (claim.score, claim.paper)));
        grid.cells[*place][*column].push(results.scores);
    }

    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let title = format!(
        "{} on {}{}, {}",
        study.title,
        hyper::data_name(&data),
        if wish.splits.is_some() { format!(", {}", count(splits.len(), "split")) } else { String::new() },
        count(seeds.len(), "seed")
    );
    let tables: Vec<(String, Table, Option<&Sheet>)> = if study.sheets.is_empty() {
        vec![("Scores".into(), study::spread_table(&grid), None)]
    } else {
        let of = |sheet: &'static Sheet| {
            (sheet.title.to_string(), study::sheet_table(sheet, study, (&grid, &claimed), &rows), Some(sheet))
        };
        study.sheets.iter().map(of).collect()
    };
    let said = (study.says)(&grid);
    print(&title)?;
    for (title, table, _) in &tables {
        print(format!("{title}\n{table}"))?;
    }
    said.iter().try_for_each(print)?;
    if !reasons.is_empty() {
        print(format!("Not comparable with the paper: {}.", reasons.join("; ")))?;
    }
    let value = json!({"title": title, "cells": json_cells, "says": said, "not_comparable_because": reasons, "departures": departures});
    write_json(&path, "table", &value)?;
    answer(&value)?;
    let mut report = Report::new(&page, P::CITATION);
    report.facts(&[("data".into(), hyper::data_name(&data)), ("device".into(), machine.name.clone())]);
    let why = if reasons.is_empty() { String::new() } else { format!("Not comparable: {}.", reasons.join("; ")) };
    for (title, table, sheet) in &tables {
        report.table(title, &why, table);
        if let Some(sheet) = sheet.filter(|sheet| sheet.bars) {
            report.bars(
                &format!("{title}, drawn"),
                "The thin line is a standard deviation to either side.",
                "",
                &grid.rows,
                &study::bars(sheet, &grid),
            );
        }
    }
    report.list("What came out", &said);
    report.list("Departures from the paper", &departures);
    report.write(&root.join(REPORT))?;
    print(format!("results: {}", path.display()))?;
    print(format!("report:  {}", root.join(REPORT).display()))?;
    // The last row is what a user takes along.
    jobs.last().map_or(Ok(()), |job| paper::exported::<P>(&job.at, machine, &job.scoring))
}

/// The flags that some variants set: those that differ among them.
fn through<H: Hyper, S: clap::Args + serde::Serialize + serde::de::DeserializeOwned + Clone>(
    variants: &[Variant<H, S>],
) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (_, set) in variants {
        let (mut h, mut s) = (hyper::blank::<H>()?, hyper::blank::<S>()?);
        set(&mut h, &mut s);
        let mut flags = hyper::flags(&h);
        flags.extend(hyper::flags(&s));
        all.push(flags);
    }
    Ok(hyper::varied(&all))
}
