//! What every binary shares: how it starts and ends, and how its results stand beside the paper's.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::run::report::Table;

/// Runs a binary's work and turns its end into an exit code: 0, or 1 after one line on standard error that names the
/// cause. A panic is a defect of ours and is answered in one line too.
pub fn main(work: impl FnOnce() -> Result<()>) -> ExitCode {
    crate::run::memory::keep();
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or("unknown");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        crate::run::progress::cry(format!(
            "error: this is a defect of rankle, please report it{place}: {}",
            first_line(text)
        ));
    }));
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => {
            crate::collectives::finish();
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            crate::collectives::fail(&one_line(&error));
            ExitCode::from(1)
        }
        Err(_) => {
            crate::collectives::leave("a defect of rankle");
            ExitCode::from(1)
        }
    }
}

/// A line on standard output. A reader that has seen enough (a closed pipe, as of `| head`) ends the program quietly;
/// any other failure is an error. Of several processes at one run only process 0 prints.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    if !crate::run::progress::speaks() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write to standard output"),
    }
}

/// An error and its causes on one line, without libtorch's C++ frames.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(|cause| first_line(&cause.to_string()).to_string()).collect::<Vec<_>>().join(": ")
}

/// The first line; libtorch's debug form quotes its text with `\n` spelled out.
fn first_line(text: &str) -> &str {
    let text = text.split("\nException raised").next().unwrap_or(text);
    let text = text.lines().next().unwrap_or(text);
    text.split("\\nException raised").next().unwrap_or(text)
}

/// A number in the precision of what it stands beside: percentages and counts with two digits, what is below 1 with six.
fn number(value: f64, beside: f64) -> String {
    if beside.abs() < 1. { format!("{value:.6}") } else { format!("{value:.2}") }
}

/// A line about what departs from a paper, and for which runs it holds.
pub type Departure<Flags> = (&'static str, fn(&Flags) -> bool);

/// The lines that hold for a run with these flags.
pub fn departures<Flags>(lines: &[Departure<Flags>], flags: &Flags) -> Vec<String> {
    lines.iter().filter(|(_, holds)| holds(flags)).map(|(text, _)| text.to_string()).collect()
}

/// A number of the paper's and, where ours may stand beside it, ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// What was measured, e.g. "Market-1501, single query, mAP".
    pub what: String,
    /// Where the paper says so, e.g. "Table 2".
    pub place: String,
    /// The paper's number.
    pub paper: f64,
    /// Ours in the same unit; None is "not run".
    pub ours: Option<f64>,
}

/// What `evaluate` found, as `results.json` holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// The binary.
    pub paper: String,
    /// The citation.
    pub citation: String,
    /// The data set by name.
    pub data: String,
    /// How the scores were computed, in words and counts.
    pub protocol: Vec<String>,
    /// Name and score, fractions unless the name says otherwise.
    pub scores: Vec<(String, f64)>,
    /// The paper's numbers for this network and protocol.
    pub claims: Vec<Claim>,
    /// Whether data and protocol are the paper's, so that ours may stand beside the paper's numbers; if not, why.
    pub comparable: std::result::Result<(), String>,
    /// What departs from the paper.
    pub departures: Vec<String>,
    /// Steps trained.
    pub step: u64,
}

impl Results {
    /// The scores as a terminal table.
    pub fn score_table(&self) -> Table {
        let rows = self.scores.iter().map(|(name, score)| vec![name.clone(), format!("{score:.4}")]).collect();
        Table { head: vec!["score".into(), "ours".into()], rows }
    }

    /// The paper's numbers of a `place` (all where it is empty) with ours beside them where that is fair, else "not
    /// comparable" or "not run".
    pub fn claim_table(&self, place: &str) -> Table {
        let ours = |claim: &Claim| match (&self.comparable, claim.ours) {
            (Err(_), _) => "not comparable".to_string(),
            (Ok(()), Some(ours)) => number(ours, claim.paper),
            (Ok(()), None) => "not run".into(),
        };
        let row = |claim: &Claim| {
            vec![claim.what.clone(), claim.place.clone(), number(claim.paper, claim.paper), ours(claim)]
        };
        Table {
            head: ["what", "place", "paper", "ours"].map(String::from).to_vec(),
            rows: self.claims.iter().filter(|claim| claim.place.starts_with(place)).map(row).collect(),
        }
    }

    /// Writes `results.json` into the run folder `at`.
    pub fn write(&self, at: &Path) -> Result<()> {
        crate::files::write_atomic(&at.join("results.json"), serde_json::to_string_pretty(&self.json())?.as_bytes())
    }

    /// What a verb ends with on standard output: protocol, scores, the paper's numbers of `place` with ours beside
    /// them where that is fair, and where the files are.
    pub fn show(&self, at: &Path, place: &str) -> Result<()> {
        print(format!("{}\n", self.citation))?;
        print(format!("{} after {} steps", self.data, self.step))?;
        for line in &self.protocol {
            print(format!("  {line}"))?;
        }
        print(self.score_table())?;
        if let Err(reason) = &self.comparable {
            print(format!("Not comparable with the paper: {reason}."))?;
        }
        print(self.claim_table(place))?;
        print(format!("departures from the paper: {} (in results.json and the report)", self.departures.len()))?;
        print(format!("results: {}", at.join("results.json").display()))?;
        print(format!("report:  {}", at.join("report.html").display()))
    }

    /// The JSON for machines.
    pub fn json(&self) -> Value {
        json!({
            "paper": self.paper,
            "citation": self.citation,
            "data": self.data,
            "step": self.step,
            "protocol": self.protocol,
            "scores": self.scores.iter().map(|(name, score)| (name.clone(), json!(score))).collect::<serde_json::Map<_, _>>(),
            "comparable": self.comparable.is_ok(),
            "not_comparable_because": self.comparable.as_ref().err(),
            "claims": self.claims,
            "departures": self.departures,
        })
    }
}
