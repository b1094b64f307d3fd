//! `results.json`: what an evaluation found, for machines, and how it is shown to people.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::claims::Beside;
use crate::hyper::FlagValues;
use crate::metrics::{Better, Score, counted};
use crate::outputs;
use crate::report::{Report, Table};
use crate::run::checkpoint::{self, BEFORE, Fingerprint};
use crate::run::config::Config;
use crate::run::folder::{REPORT, RESULTS};
use crate::say::{answer, count, foreign, note, print, print_lines};
use crate::{files, lists, weights};

/// What an evaluation found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The folder that they stand in.
    #[serde(skip)]
    pub at: PathBuf,
    pub paper: String,
    pub citation: String,
    pub data: String,
    /// What data they are of, where not the run's own: the flags that name them.
    #[serde(default)]
    pub of: Value,
    /// A hash of what was scored, where it comes from files.
    pub scored: Option<String>,
    /// Of which run or published network they are: [`Nets::mark`](crate::paper::Nets::mark). None of an older version.
    #[serde(default)]
    pub run: Option<String>,
    /// The checkpoints that were scored: none of a network as training found it, of published weights, and of an older version.
    #[serde(default)]
    pub checkpoints: Vec<Fingerprint>,
    pub step: u64,
    /// The file of published weights that were scored, in place of a run's.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// Their content's BLAKE3 hash, and that of the weights of what found the faces.
    #[serde(default)]
    pub weights_blake3: Option<String>,
    #[serde(default)]
    pub detector_blake3: Option<String>,
    /// What the scores come to, in a plain sentence; an older version has none.
    #[serde(default)]
    pub says: String,
    pub protocol: Vec<String>,
    /// How it was scored: the flags.
    pub scoring: FlagValues,
    /// What was measured.
    #[serde(flatten, with = "by_name")]
    pub scores: Vec<Score>,
    /// Whether some of ours stand beside the paper's.
    pub comparable: bool,
    /// Why the scores cannot stand beside the paper's; None where they can.
    pub not_comparable_because: Option<String>,
    /// All of the paper's numbers.
    pub claims: Vec<Beside>,
    /// What departs from the paper.
    pub departures: Vec<String>,
}

/// What the file says that it holds.
const SCORES: &str = "scores";

/// Scores as an object of numbers, and beside it what is known of them.
mod by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::hyper::FlagValues;
    use crate::metrics::{Better, Score, counted};

    #[derive(Serialize, Deserialize)]
    struct Written {
        scores: FlagValues,
        /// An older version has none: of its scores neither more nor less is better.
        #[serde(default)]
        better: BTreeMap<String, Better>,
        /// Those that count, the first first.
        #[serde(default)]
        counts: Vec<String>,
    }

    pub fn serialize<S: Serializer>(scores: &[Score], to: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            scores: scores.iter().map(|score| (score.name.clone(), score.value.into())).collect(),
            better: scores.iter().map(|score| (score.name.clone(), score.better)).collect(),
            counts: counted(scores).into_iter().map(|score| score.name.clone()).collect(),
        };
        written.serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Score>, D::Error> {
        let Written { scores, better, counts } = Written::deserialize(from)?;
        let of = |(name, value): (String, serde_json::Value)| {
            let better = better.get(&name).copied().unwrap_or(Better::Neither);
            let counts = counts.iter().position(|counted| *counted == name).and_then(|place| place.try_into().ok());
            Some(Score { value: value.as_f64()?, name, better, counts })
        };
        Ok(scores.into_iter().filter_map(of).collect())
    }
}

/// A number in the precision of what it stands beside: percentages and counts with two digits, what is below 1 with six.
pub(crate) fn number(value: f64, beside: f64) -> String {
    if beside.abs() < 1. { format!("{value:.6}") } else { format!("{value:.2}") }
}

/// Why ours stands beside none of the paper's numbers, as the terminal and pages say it.
pub(crate) fn not_comparable(why: &str) -> String {
    format!("Not comparable with the paper: {why}.")
}

/// Of checkpoints that were `scored`, the first one in whose place a later one has come, and the step of that; of the run's
/// checkpoints, `known` with their files, such must be whole, and not another part's that was scored too.
pub(crate) fn passed<'a>(
    scored: &'a [Fingerprint],
    known: &[(Fingerprint, PathBuf)],
) -> Option<(&'a Fingerprint, u64)> {
    let now = || known.iter().filter(|(_, file)| !file.ends_with(BEFORE));
    scored.iter().filter(|of| now().all(|(own, _)| own != *of)).find_map(|of| {
        let later = |own: &Fingerprint| own.which == of.which && own.step > of.step && !scored.contains(own);
        let (own, _) = now().find(|(own, file)| later(own) && weights::is_whole(file))?;
        Some((of, own.step))
    })
}

impl Results {
    /// Whether an older version wrote them, which did not say which of two values is better, nor which scores count.
    pub fn are_older(&self) -> bool {
        !self.scores.is_empty()
            && self.scores.iter().all(|score| score.better == Better::Neither && score.counts.is_none())
    }

    /// The scores that count first on the page, of an older version its first, beside the paper's or with a word on why not.
    pub fn lead(&self, report: &mut Report) {
        let number = |score: &&Score| {
            let beside = self.claims.iter().find(|claim| claim.score == score.name && claim.ours.is_some());
            let beside =
                beside.map_or(String::new(), |claim| format!("{}: {}", claim.place, number(claim.paper, claim.paper)));
            (score.name.clone(), format!("{:.4}", score.value), beside)
        };
        let mut first = counted(&self.scores);
        first.extend(self.scores.first().filter(|_| self.are_older()));
        let numbers: Vec<_> = first.iter().take(3).map(number).collect();
        report.answers(&self.says);
        let why = self.not_comparable_because.as_ref().map(|why| not_comparable(why));
        report.lead(&numbers, &why.unwrap_or_default());
    }

    /// What the scores in the folder `at` say, before anything is decided by it; None where there are none. That an older
    /// version wrote them, which kept no hash, is said.
    ///
    /// # Errors
    /// Where they cannot be read, or are not as they were written.
    pub fn said(at: &Path) -> Result<Option<Value>> {
        let file = at.join(RESULTS);
        let Some((found, sealed)) = outputs::read_sealed(&file)? else { return Ok(None) };
        if !sealed && found["paper"].is_string() {
            note(format!("{} has no checksum (an older version wrote it)", file.display()));
        }
        Ok(Some(found))
    }

    /// Those in the folder `at`, if there are any.
    ///
    /// # Errors
    /// As [`Results::said`], and where they are not ours.
    pub fn read(at: &Path) -> Result<Option<Results>> {
        let Some(value) = Results::said(at)? else { return Ok(None) };
        match serde_json::from_value(value) {
            Ok(found) => Ok(Some(Results { at: at.into(), ..found })),
            Err(error) => bail!(
                "{} is not this program's, or of another version ({error}): move it away, and evaluate again",
                at.join(RESULTS).display()
            ),
        }
    }

    /// Whether the file at `path` says that it holds scores of this `paper`.
    pub fn are_ours(path: &Path, paper: &str) -> bool {
        lists::json::<Value>(path).is_ok_and(|found| found["paper"] == paper)
    }

    /// Errors where the scores in the folder `at` are not as they were written, another paper's, of other flags than those with
    /// this `mark`, or of other checkpoints than those of the `run`, its folder and configuration, and where a part of it that
    /// was scored is gone. Of one that went on they may be of a step that it no longer has, and a damaged one tells nothing: such
    /// are said not to be checked.
    pub fn check_run(at: &Path, run: (&Path, &Config), mark: &str) -> Result<()> {
        let (file, said) = (at.join(RESULTS), Results::said(at)?.unwrap_or_default());
        let mut known = checkpoint::fingerprints(run.0);
        let other = |key: &str, own: &str| said[key].as_str().filter(|found| *found != own);
        let scored: Vec<Fingerprint> = serde_json::from_value(said["checkpoints"].clone()).unwrap_or_default();
        let (found, lost): (Vec<Fingerprint>, Vec<Fingerprint>) =
            scored.iter().cloned().partition(|of| known.iter().any(|(own, _)| own == of));
        let differs = |of: &Fingerprint| {
            let same = |own: &Fingerprint| (&own.which, own.step) == (&of.which, of.step);
            known.iter().any(|(own, file)| same(own) && weights::is_whole(file))
        };
        let another = lost.iter().any(differs);
        let other = other("paper", &run.1.paper).map(foreign).or(other("run", mark).map(|_| "other flags".into()));
        let parts = run.1.parts().unwrap_or_default().into_iter().map(|part| run.0.join(part));
        let (there, gone): (Vec<PathBuf>, Vec<PathBuf>) = parts.partition(|part| checkpoint::exists(part));
        if let (None, true, Some(part)) = (&other, another && there.len() < scored.len(), gone.first()) {
            let (part, file) = (part.display(), file.display());
            bail!("{part} has no checkpoint, though {file} is of one: restore it, or train again into another --run");
        }
        if let Some(other) = other.or(another.then(|| "another training with these flags".into())) {
            bail!("{} is of {other}: move it away, and evaluate again", file.display());
        }
        known.retain(|(own, _)| !found.contains(own));
        if let Some((of, now)) = passed(&lost, &known) {
            let (file, step) = (file.display(), of.step);
            note(format!(
                "{file} is of step {step}, and training has gone on to step {now}: whether it is of this training is not checked"
            ));
        } else if let Some(Fingerprint { which, step, .. }) = lost.first() {
            note(format!("{} is of step {step}, whose {which} is gone or damaged: not checked", file.display()));
        }
        Ok(())
    }

    /// Rows of published numbers, with ours beside them where there are any.
    fn claim_table(&self, wanted: impl Fn(&Beside) -> bool) -> Table {
        let rows: Vec<&Beside> = self.claims.iter().filter(|row| wanted(row)).collect();
        let columns = if rows.iter().any(|row| row.ours.is_some()) { 4 } else { 3 };
        let row = |row: &&Beside| {
            let ours = row.ours.map_or("–".to_string(), |ours| number(ours, row.paper));
            vec![row.what.clone(), row.place.clone(), number(row.paper, row.paper), ours][..columns].to_vec()
        };
        Table::new(["what", "place", "published", "ours"].into_iter().take(columns), rows.iter().map(row))
    }

    /// Errors where they could not stand in `at`, with a page of this title.
    pub fn check(at: &Path, title: &str) -> Result<()> {
        let file = at.join(RESULTS);
        // An older version's do not say what they hold.
        if Results::said(at)?.is_none_or(|found| found["paper"] != title) {
            outputs::check(&file, SCORES)?;
        }
        files::check(&file).and_then(|()| outputs::check(&at.join(REPORT), title))
    }

    /// Writes them into their folder, after [`Results::check`].
    pub fn write(&self) -> Result<()> {
        outputs::replace(&self.at.join(RESULTS), SCORES, outputs::Said::new(&serde_json::to_value(self)?, None))
    }

    /// Scores, the paper's numbers beside them and the protocol, for a page; the list of scores folded where tables `show` them
    /// already.
    pub fn onto(&self, report: &mut Report, show: bool) {
        match show {
            true => report.folded_table("All scores", &count(self.scores.len(), "score"), &Table::scores(&self.scores)),
            false => report.table("Scores", "", &Table::scores(&self.scores)),
        }
        let measured = self.claim_table(|row| !row.of_weights && row.ours.is_some());
        if !measured.rows.is_empty() {
            report.table("Beside the paper's numbers", "", &measured);
        }
        if self.claims.iter().any(|row| row.of_weights) {
            report.table("Who made these weights says", "", &self.claim_table(|row| row.of_weights));
        }
        report.list("Protocol", &self.protocol);
    }

    /// The paper's numbers that nothing of ours stands beside, folded away, for the end of a page.
    pub fn unmeasured(&self, report: &mut Report) {
        let rest = self.claim_table(|row| !row.of_weights && row.ours.is_none());
        let why = self.not_comparable_because.as_ref().map(|why| not_comparable(why));
        if !rest.rows.is_empty() {
            let all = rest.rows.len() == self.claims.iter().filter(|row| !row.of_weights).count();
            let heading = if all { "The paper's numbers" } else { "The paper's other numbers" };
            report.folded_table(heading, &why.unwrap_or_default(), &rest);
        }
    }

    /// What a verb ends with on standard output; `tables` stand in place of the list of scores, where there are some, and
    /// `rivals` at the end.
    pub fn show(&self, tables: &[(String, Table)], rivals: &[(String, Table)]) -> Result<()> {
        let mut value = serde_json::to_value(self)?;
        for (title, table) in rivals {
            value["rivals"][title] = json!(table.named());
        }
        answer(&value)?;
        if !self.says.is_empty() {
            print(&self.says)?;
        }
        print_lines(format!("{}\n", self.citation))?;
        let by = match &self.weights {
            Some(file) => format!("by {}", file.display()),
            None => format!("after {}", count(self.step as usize, "step")),
        };
        print(format!("{} {by}", self.data))?;
        self.protocol.iter().try_for_each(|text| print(format!("  {text}")))?;
        for (title, table) in tables {
            print_lines(format!("{title}\n{table}"))?;
        }
        if tables.is_empty() {
            print_lines(Table::scores(&self.scores))?;
        }
        match &self.not_comparable_because {
            Some(why) => print(not_comparable(why))?,
            None => print_lines(self.claim_table(|row| row.ours.is_some() && !row.of_weights))?,
        }
        if self.claims.iter().any(|row| row.of_weights) {
            print_lines(format!("Who made these weights says\n{}", self.claim_table(|row| row.of_weights)))?;
        }
        print(format!("departures from the paper: {} (in {RESULTS} and the report)", self.departures.len()))?;
        print(format!("results: {}", self.at.join(RESULTS).display()))?;
        print(format!("report:  {}", self.at.join(REPORT).display()))?;
        rivals.iter().try_for_each(|(title, table)| print_lines(format!("{title}\n{table}")))
    }
}
