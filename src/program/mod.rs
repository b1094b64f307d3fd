//! A paper's program: the command line, and the verbs, which stand here, once.

mod line;
mod work;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::FromArgMatches;
use clap::error::ErrorKind;
use serde_json::json;

use crate::hyper::{self, All, Heading};
use crate::paper::{self, Paper};
use crate::run::config::PATHS;
use crate::run::stop::{self, Stopped};
use crate::say::print;
use crate::{claims, runs, shell, verbs};

pub use line::command;
use line::{Verb, plain};
use work::{baselines_verb, data_verb, embed_verb, evaluate_verb, reproduce, to_embed, use_of};

/// A paper's program: its command line, its verb, its end.
pub fn main<P: Paper>() -> ExitCode {
    if std::env::args().skip(1).eq(["sound".to_string()]) {
        return ended(sound::<P>);
    }
    // Help takes longer to make than all else.
    let helps = |error: &clap::Error| error.kind() == ErrorKind::DisplayHelp;
    let matches = match plain::<P>().try_get_matches_from(words()) {
        Err(error) if helps(&error) => command::<P>().try_get_matches_from(words()),
        matches => matches,
    };
    let matches = matches.unwrap_or_else(|error| crate::say::misused(&error));
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
            return baselines_verb::<P>(of);
        }
        match Verb::<P::Hyper, P::Scoring>::from_arg_matches(&matches)? {
            Verb::Train(args) => {
                let h = shell::asked::<P>(of)?;
                let run = paper::run_of(&h, args.machine.resolve_world()?);
                let at = args.run.unwrap_or_else(|| hyper::folder(P::NAME, &h));
                run.world().agree(paper::RUN, &at)?;
                let data = paper::opened_data::<P>(&h, &run.machine, Some(&at))?;
                paper::train::<P>(&h, &data, &at, &run)?;
                print(format!("trained: {}", at.display()))?;
                let next = [P::NAME.into(), "evaluate".into(), "--run".into(), stop::as_argument(&at)];
                print(format!("next: {}", stop::typed(next)))
            }
            Verb::Reproduce(args) => reproduce::<P>(args, of),
            Verb::Evaluate(args) => evaluate_verb::<P>(args, of),
            Verb::Embed(args) => embed_verb::<P>(args, of),
            Verb::Export(args) => {
                let (opened, run) = to_embed::<P>(args.made, args.machine.resolve()?, &args.scoring, (name, of))?;
                paper::export_run(&opened.nets(&run), &args.scoring, args.folded)
            }
            Verb::Report(args) => runs::report::<P>(&args.run),
            Verb::Compare(args) => runs::compare::<P>(&args.runs, &args.out),
            Verb::Completions { shell } => shell::completions(command::<P>(), shell),
            Verb::Man { verb } => shell::man(command::<P>(), verb.as_deref()),
            Verb::Data(args) => data_verb::<P>(args, of),
        }
    })
}

/// The words of the command line, of which one that begins as a number below 0 stands behind its flag and a `=`: so it is
/// refused as that flag's value, `-1e-3` and lists too.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for word in std::env::args_os() {
        let below = matches!(word.as_encoded_bytes(), [b'-', b'0'..=b'9' | b'.', ..]);
        let is_flag = |last: &[u8]| last.starts_with(b"--") && last.len() > 2 && !last.contains(&b'=');
        match words.last_mut().filter(|last| below && is_flag(last.as_encoded_bytes())) {
            Some(flag) => {
                flag.push("=");
                flag.push(word);
            }
            None => words.push(word),
        }
    }
    words
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

/// The verb `sound`, which only tests know. Checks the rows of a paper's tables: every flag that they name exists and has a
/// place, every recipe is one of its flags'. Prints what a test needs: the names of the scores that claims and tables are of,
/// and the flags that some paper must have, since all are asked for them.
fn sound<P: Paper>() -> Result<()> {
    hyper::sound::<P::Hyper, P::Scoring>()?;
    verbs::sound::<P::Scoring>()?;
    let names = |of: Vec<clap::Arg>| of.iter().map(hyper::name).collect::<BTreeSet<String>>();
    let (data, scoring) = (hyper::under::<P::Hyper>(Heading::Data), names(hyper::args::<P::Scoring>()));
    let lost = P::SEEN.iter().find(|flag| !data.iter().any(|known| known == *flag));
    lost.map_or(Ok(()), |flag| Err(anyhow!("SEEN: no flag of the data is --{flag}")))?;
    let looked_at = P::BASELINES.map_or(&[][..], |(_, flags)| flags);
    let lost = looked_at.iter().find(|flag| !scoring.contains(**flag));
    lost.map_or(Ok(()), |flag| Err(anyhow!("BASELINES: no flag of scoring is --{flag}")))?;
    for verb in P::USES {
        // A verb lists the flags of several papers.
        let known = verb.scoring.is_empty() || verb.scoring.iter().any(|flag| scoring.contains(*flag));
        ensure!(known, "{}: of the flags of scoring that it takes there is none", verb.name);
    }
    let of_weights = P::THEIRS.iter().filter_map(|known| known.score);
    let mut named: BTreeSet<String> = of_weights.map(|(score, _, _)| score.to_string()).collect();
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
    let (flags, tables) = (names(hyper::args::<All<P::Hyper>>()), P::STUDIES.iter().map(|study| study.name));
    let tables: BTreeSet<&str> = tables.collect();
    let shared = PATHS.into_iter().chain([hyper::VALIDATION, hyper::SPLIT, hyper::START]).collect::<Vec<_>>();
    print(json!({"flags": flags, "shared": shared, "scores": named, "tables": tables}))
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
