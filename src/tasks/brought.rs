//! What a user brings, and what the verbs that do with a network what it is for share: photos out of folders and files, a
//! folder of results, tiles of a report.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgMatches, Command};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::Rows;
use super::kept::{Kept, NO_FACE, NOT_READ, full};
use super::pairs::Ranked;
use crate::datasets::{Photo, Source, folder};
use crate::distance::Metric;
use crate::outputs::{Listed, Said, write_said};
use crate::picture;
use crate::report::{Frame, Report, Tile, within};
use crate::run::board::now;
use crate::run::config::typed_as;
use crate::run::folder::REPORT;
use crate::run::stop::typed;
use crate::say::{answer, count, moment, note, plural, print, thousands};

/// A verb that does with a network what it is for.
pub struct Use {
    /// As it is typed.
    pub name: &'static str,
    /// Adds its own flags and its help.
    pub flags: fn(Command) -> Command,
    /// Flags of scoring that it takes too.
    pub scoring: &'static [&'static str],
    /// What it does with the network.
    pub work: fn(&Asked<'_>, &ArgMatches) -> Result<()>,
}

/// Ranks queries and a gallery.
pub type Compare<'a> = dyn Fn(&[Photo], &[Photo]) -> Result<Option<Ranked>> + 'a;

/// Flags, and how many photos are of each, one after the other; empty where all are of one.
pub type Sides = [(&'static str, usize)];

/// A run's network, or published weights, as such a verb meets it.
pub struct Asked<'a> {
    /// The paper, and its citation.
    pub paper: (&'static str, &'static str),
    /// Of a network that was trained on drawn data, that it knows nothing of photos.
    pub drawn: Option<String>,
    /// What the network says of photos, which are of these flags.
    pub embed: &'a dyn Fn(Vec<Photo>, &Sides) -> Result<Rows>,
    /// What queries and a gallery are ranked by, `[Q, G]`, of a network that compares two photos; None of others.
    pub compare: &'a Compare<'a>,
    /// How embeddings are compared.
    pub metric: Metric,
    /// Whether photos that cannot be read are left out.
    pub skip_unreadable: bool,
    /// What makes the results: program, weights that were loaded by now, flags.
    pub made: &'a dyn Fn() -> Value,
}

impl Asked<'_> {
    /// What a verb says first, in the terminal, on the page and in JSON: what it found, what was left out of `rows`, and of a
    /// network that was trained on drawn data that all of it means nothing.
    pub fn says(&self, found: &str, rows: &Rows) -> String {
        let drawn = self.drawn.as_ref().map_or(String::new(), |drawn| format!(" Note: {drawn}."));
        format!("{found}{}{drawn}", rows.left_out())
    }
}

/// What a user brings.
#[derive(Debug, Clone, Default)]
pub struct Brought {
    /// The folders and files that were named.
    pub paths: Vec<PathBuf>,
    /// The photos in them.
    pub photos: Vec<Photo>,
    /// How many of them are of which flag: [`Sides`].
    pub sides: Vec<(&'static str, usize)>,
    /// Whether features below the answers are wanted too.
    pub features: bool,
    /// Where rows are kept: see [`Brought::rows`].
    pub kept: Option<Kept>,
}

impl Brought {
    /// How many photos there are, by their flags where they are of several.
    pub(super) fn all(&self) -> String {
        let each = self.sides.iter().map(|(flag, count)| format!("{} of --{flag}", thousands(*count)));
        let each =
            if self.sides.is_empty() { String::new() } else { format!(" ({})", each.collect::<Vec<_>>().join(", ")) };
        count(self.photos.len(), "photo") + &each
    }

    /// All images in these folders and files: of one folder by their names in it, of several by their paths. A photo that comes
    /// twice, by another path or a link, counts once, and it is said.
    ///
    /// # Errors
    /// Where one is missing, or a folder has no image.
    pub fn photos(paths: &[PathBuf]) -> Result<Vec<Photo>> {
        let missing = paths.iter().find(|path| !path.exists());
        missing.map_or(Ok(()), |path| {
            bail!("{}: there is no such file or folder: name photos, or folders of photos", path.display())
        })?;
        if let [one] = paths
            && !one.is_file()
        {
            return Ok(once(folder(one)?));
        }
        let mut all = Vec::new();
        for path in paths {
            ensure!(path.to_str().is_some(), "{}: a name that is not UTF-8: rename it", path.display());
            let named = |name: &str| path.join(name).to_string_lossy().into();
            match path.is_file() {
                true => all.push(Photo::new(Source::from(path.clone()), path.to_string_lossy().into(), -1, 1)),
                false => all.extend(folder(path)?.into_iter().map(|photo| Photo { name: named(&photo.name), ..photo })),
            }
        }
        Ok(once(all))
    }
}

/// Those of `photos` whose files are different ones, the first by each file; the rest is said.
fn once(mut photos: Vec<Photo>) -> Vec<Photo> {
    let files: Vec<_> = photos.par_iter().map(full).collect();
    let (mut seen, mut files, mut twice) = (HashSet::new(), files.into_iter(), Vec::new());
    photos.retain(|photo| {
        let file = files.next().flatten().unwrap_or_else(|| PathBuf::from(&*photo.name));
        let new = seen.insert(file);
        twice.extend((!new).then(|| photo.name.clone()));
        new
    });
    if let Some(first) = twice.first() {
        let (many, counts) = (count(twice.len(), "photo"), plural(twice.len(), "counts", "count"));
        note(format!("{many} came twice, by another path or a link, and {counts} once, the first: {first}"));
    }
    photos
}

/// Writes the folder of results: `value` as JSON that is called `name` and holds `what`, and the page; both say the page's
/// answer, when and by what they were made, and which (how many) photos were left out. A list that is long may be made while it
/// is written.
pub fn write_folder(
    asked: &Asked<'_>,
    out: &Path,
    (name, what): (&str, &str),
    (mut value, list): (Value, Option<Listed<'_>>),
    left_out: &Rows,
    mut report: Report,
) -> Result<()> {
    let [unread, empty] = [NOT_READ, NO_FACE].map(|what| left_out.texts(what).unwrap_or_default());
    let (made, time) = ((asked.made)(), moment(now()));
    let words = made["command"].as_array().into_iter().flatten().map(typed_as);
    let mut facts = vec![("photos that cannot be read", unread.len().to_string())];
    let detects = !made["scoring"]["detect"].is_null();
    facts.extend(detects.then(|| ("photos without a face", empty.len().to_string())));
    facts.extend([("made", time.clone()), ("by", typed_as(&made["program"])), ("weights", typed_as(&made["weights"]))]);
    let network = made["network"].as_object().into_iter().flatten().filter(|(flag, _)| *flag != "weights");
    let network = network.map(|(flag, value)| format!("{flag} {}", typed_as(value))).collect::<Vec<_>>().join(", ");
    facts.extend([("network", network), ("command", typed(words))]);
    report.facts(&facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<Vec<_>>());
    value["says"] = report.answer().into();
    value["not_read"] = json!(unread);
    value["no_face"] = json!(empty);
    value["made"] = made;
    value["made"]["time"] = json!(time);
    let said = Said::new(&value, list);
    answer(&said)?;
    std::fs::create_dir_all(out)
        .with_context(|| format!("--out {}: name a folder that can be written", out.display()))?;
    write_said(&out.join(name), what, said)?;
    report.write(&out.join(REPORT))?;
    print(format!("results: {}", out.join(name).display()))?;
    print(format!("report:  {}", out.join(REPORT).display()))
}

/// Pictures that a page shows at most.
pub const PICTURES: usize = 200;

/// A picture of a page, read again and made small at once, so that a page of large photos takes no memory.
pub fn tile(photo: &Photo, caption: String, frame: Frame) -> Result<Tile> {
    let image = photo.source.image()?;
    let (wide, high) = within(image.dimensions(), 192);
    let image = if (wide, high) == image.dimensions() { (*image).clone() } else { picture::resize(&image, high, wide) };
    Ok(Tile { image, caption, frame })
}
