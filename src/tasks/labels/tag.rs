//! Labels for a user's photos.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Deserialize;
use serde_json::json;
use tch::Tensor;

use super::Decision;
use super::decisions::ones;
use crate::files;
use crate::outputs::{Listed, hold_folder, write_list};
use crate::real::numbers;
use crate::report::{Frame, GalleryRow, Report, Table};
use crate::run::folder::REPORT;
use crate::say::{self, foreign, print, print_lines};
use crate::tasks::brought::{Asked, Brought, PICTURES, Use, tile, write_folder};

/// The verb `tag`: labels for photos.
pub const TAG: Use = Use {
    name: "tag",
    flags: |verb: Command| {
        TagFlags::augment_args(verb)
            .about("Labels for photos, with scores and thresholds, by one of two decisions (--decision): tags.csv, tags.json, a page")
    },
    scoring: &["decision"],
    work: tag,
};

#[derive(Args)]
struct TagFlags {
    /// Photos, or folders that are searched with their subfolders
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Folder to write: tags.csv, tags.json and report.html. A photo's labels are what --decision gives; its count is what the count head says, whatever the decision; its highest are the five classes of the highest scores, labels or not
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Class, score, threshold.
type Tag = (usize, f32, f32);

/// So many classes of the highest scores are told of every photo.
const HIGHEST: usize = 5;

/// The columns of the list.
const HEAD: [&str; 8] =
    ["photo", "count", "labels", "scores", "thresholds", "highest", "highest_scores", "highest_thresholds"];

/// What the count of a photo is.
const COUNT: &str = "how many labels the count head expects, whatever the decision";

/// What a decision's labels are.
fn says(decision: Decision) -> &'static str {
    match decision {
        Decision::Threshold => {
            "the classes whose scores lie above their thresholds, which the threshold head says of each photo"
        }
        Decision::Count => "as many classes of the highest scores as the count head says",
    }
}

fn tag(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const FILE: (&str, &str) = ("tags.json", "tags");
    const PAGE: (&str, &str) = (REPORT, "Labels");
    let flags = TagFlags::from_arg_matches(of)?;
    let list = flags.out.join("tags.csv");
    let _held = hold_folder(&flags.out, &[FILE, PAGE, ("tags.csv", FILE.1)], &[&flags.images])?;
    let rows = (asked.embed)(Brought::photos(&flags.images)?, &[])?;
    let classes = rows.texts("classes").context("no classes")?;
    let tensor = |wanted: &str| -> Result<&Tensor> {
        Ok(&rows.tensors.iter().find(|(name, _)| name == wanted).with_context(|| format!("no {wanted}"))?.1)
    };
    let (scores, thresholds, labels) = (tensor("scores")?, tensor("thresholds")?, tensor("labels")?);
    let counts = numbers::<i64>(tensor("counts")?);
    let decision: Decision = Deserialize::deserialize(&(asked.made)()["scoring"]["decision"]).context("no decision")?;
    // A photo's labels, and whatever has high scores, the highest first. Found each time it is asked for: of all photos at once
    // it would fill memory.
    let found = |row: usize| -> [Vec<Tag>; 2] {
        let row = row as i64;
        let (f, theta, own) =
            (numbers::<f32>(&scores.get(row)), numbers::<f32>(&thresholds.get(row)), numbers::<u8>(&labels.get(row)));
        let mut all: Vec<Tag> = (0..classes.len()).map(|k| (k, f[k], theta[k])).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        let tags = all.iter().filter(|tag| own[tag.0] != 0).copied().collect();
        all.truncate(HIGHEST);
        [tags, all]
    };
    let photo = |row: usize| {
        let label = |&(k, score, threshold): &Tag| json!({"label": classes[k], "score": score, "threshold": threshold});
        let [tags, highest] = found(row).map(|of| of.iter().map(label).collect::<Vec<_>>());
        json!({"photo": rows.names[row], "count": counts[row], "labels": tags, "highest": highest})
    };
    let all = rows.names.len();
    let listed = Listed { key: "photos", count: all, each: &photo };
    let mut value = json!({"decision": decision, "labels_are": says(decision), "count_is": COUNT, "classes": classes, listed.key: null});
    let each = ones(labels, 0);
    let mut given: Vec<usize> = (0..classes.len()).filter(|&k| each[k] > 0).collect();
    given.sort_by_key(|&k| std::cmp::Reverse(each[k]));
    let row = |&k: &usize| vec![classes[k].clone(), each[k].to_string()];
    let table = Table::new(["label", "photos"], given.iter().map(row));
    let shown = all.min(PICTURES);
    let strip = |i: usize| {
        let row = i * all / shown;
        let said = |of: &[Tag]| {
            let words = of.iter().map(|&(k, score, threshold)| format!("{} {score:.2} ({threshold:.2})", classes[k]));
            words.collect::<Vec<_>>().join(", ")
        };
        let [tags, highest] = found(row);
        let (labels, highest, count) = (said(&tags), said(&highest), counts[row]);
        let said = match tags.is_empty() {
            true => format!("no label; highest scores: {highest}; count {count}"),
            false => format!("{labels}; count {count}"),
        };
        Ok(GalleryRow { title: rows.names[row].clone(), tiles: vec![tile(&rows.photos[row], said, Frame::Plain)?] })
    };
    let strips = (0..shown).map(strip).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(PAGE.1, asked.paper.1);
    let bare = ones(labels, 1).into_iter().filter(|&count| count == 0).count();
    let most = given
        .first()
        .map_or(String::new(), |&k| format!("; the most frequent is {} ({})", foreign(&classes[k]), each[k]));
    let photos = say::count(all, "photo");
    let kinds = format!("{} of {} in use", given.len(), say::count(classes.len(), "class"));
    let sentence = asked.says(&format!("Labels for {} of {photos}, {kinds}{most}.", all - bare), &rows);
    print(&sentence)?;
    print_lines(&table)?;
    report.answers(&sentence);
    report.counts(&[
        ("photo", "photos", all),
        ("without a label", "without a label", bare),
        ("class", "classes", classes.len()),
    ]);
    report.facts(&[("labels are".into(), says(decision).into()), ("count is".into(), COUNT.into())]);
    report.table("How often each label is given", "", &table);
    report.gallery(
        "Photos and their labels",
        &format!("Each with its score and its threshold, the highest score first; {shown} of {photos}."),
        &strips,
    );
    let fill = |file: fs::File| {
        let mut text = csv::Writer::from_writer(file);
        text.write_record(HEAD)?;
        for (row, name) in rows.names.iter().enumerate() {
            let lists = found(row).map(|tags| {
                let joined = |of: &dyn Fn(&Tag) -> String| tags.iter().map(of).collect::<Vec<_>>().join(";");
                [
                    joined(&|tag| classes[tag.0].clone()),
                    joined(&|tag| tag.1.to_string()),
                    joined(&|tag| tag.2.to_string()),
                ]
            });
            text.write_record([name.clone(), counts[row].to_string()].into_iter().chain(lists.into_iter().flatten()))?;
        }
        Ok(text.flush()?)
    };
    fs::create_dir_all(&flags.out).map_err(|error| files::cannot(&flags.out, error))?;
    write_list(&list, FILE.1, fill, |hashes| {
        hashes.into_iter().for_each(|(key, hash)| value[key] = hash);
        write_folder(asked, &flags.out, FILE, (value, Some(listed)), &rows, report)
    })?;
    print(format!("list:    {}", list.display()))
}
