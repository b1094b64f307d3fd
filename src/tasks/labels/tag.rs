//! Labels for a user's photos.

use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde_json::json;
use tch::Tensor;

use crate::files;
use crate::outputs::{TAGS, check_folder};
use crate::real::numbers;
use crate::report::{Frame, GalleryRow, Report, Table};
use crate::run::folder::REPORT;
use crate::say::print;
use crate::tasks::brought::{Asked, Brought, PICTURES, Use, apart, tile, write_folder};

/// `tag`.
pub const TAG: Use = Use {
    name: "tag",
    flags: |verb: Command| {
        TagFlags::augment_args(verb)
            .about("Labels for photos, with scores, thresholds and counts: tags.csv, tags.json, a page")
    },
    scoring: &["decision"],
    work: tag,
};

#[derive(Args)]
struct TagFlags {
    /// Photos, or folders that are searched with their subfolders
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Folder to write: tags.csv, tags.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn tag(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const FILE: (&str, &str) = ("tags.json", "tags");
    const PAGE: (&str, &str) = (REPORT, "Labels");
    let flags = TagFlags::from_arg_matches(of)?;
    let list = flags.out.join("tags.csv");
    check_folder(&flags.out, &[FILE, PAGE, ("tags.csv", FILE.1)])?;
    apart("out", &flags.out, &flags.images)?;
    let rows = (asked.embed)(Brought::photos(&flags.images)?)?;
    let classes = rows.texts("classes").context("no classes")?;
    let tensor = |wanted: &str| -> Result<&Tensor> {
        Ok(&rows.tensors.iter().find(|(name, _)| name == wanted).with_context(|| format!("no {wanted}"))?.1)
    };
    let (scores, thresholds, labels) = (tensor("scores")?, tensor("thresholds")?, tensor("labels")?);
    let counts = numbers::<i64>(tensor("counts")?);
    // The labels of each photo, the highest score first: class, score, threshold.
    let mut tags: Vec<Vec<(usize, f32, f32)>> = Vec::new();
    for row in 0..rows.names.len() as i64 {
        let (f, theta, own) =
            (numbers::<f32>(&scores.get(row)), numbers::<f32>(&thresholds.get(row)), numbers::<u8>(&labels.get(row)));
        let mut found: Vec<_> = (0..classes.len()).filter(|&k| own[k] != 0).map(|k| (k, f[k], theta[k])).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        tags.push(found);
    }
    let photo = |row: usize| {
        let label = |&(k, score, threshold): &(usize, f32, f32)| json!({"label": classes[k], "score": score, "threshold": threshold});
        json!({"photo": rows.names[row], "count": counts[row], "labels": tags[row].iter().map(label).collect::<Vec<_>>()})
    };
    let value = json!({"classes": classes, "photos": (0..tags.len()).map(photo).collect::<Vec<_>>()});
    let mut each = vec![0; classes.len()];
    tags.iter().flatten().for_each(|&(k, ..)| each[k] += 1);
    let row = |k: usize| vec![classes[k].clone(), each[k].to_string()];
    let table = Table { head: vec!["label".into(), "photos".into()], rows: (0..classes.len()).map(row).collect() };
    let shown = tags.len().min(PICTURES);
    let strip = |i: usize| {
        let row = i * tags.len() / shown;
        let said = tags[row].iter().map(|&(k, score, _)| format!("{} {score:.2}", classes[k])).collect::<Vec<_>>();
        let said = if said.is_empty() { "no label".into() } else { said.join(", ") };
        Ok(GalleryRow { title: rows.names[row].clone(), tiles: vec![tile(&rows.photos[row], said, Frame::Plain)?] })
    };
    let strips = (0..shown).map(strip).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(PAGE.1, asked.paper.1);
    report.facts(&[("photos".into(), tags.len().to_string()), ("classes".into(), classes.len().to_string())]);
    report.table("How often each label is given", "", &table);
    report.gallery(
        "Photos and their labels",
        &format!("With scores, the highest first; {shown} of {} photos.", tags.len()),
        &strips,
    );
    print(&table)?;
    write_folder(asked, &flags.out, FILE, value, &rows, &report)?;
    files::atomically(&list, |draft| {
        let mut file = csv::Writer::from_writer(BufWriter::new(files::own(draft)?));
        file.write_record(TAGS)?;
        for ((name, count), tags) in rows.names.iter().zip(&counts).zip(&tags) {
            let joined = |of: &dyn Fn(&(usize, f32, f32)) -> String| tags.iter().map(of).collect::<Vec<_>>().join(";");
            let (labels, scores) = (joined(&|tag| classes[tag.0].clone()), joined(&|tag| tag.1.to_string()));
            file.write_record([name, &count.to_string(), &labels, &scores, &joined(&|tag| tag.2.to_string())])?;
        }
        Ok(file.flush()?)
    })?;
    print(format!("list:    {}", list.display()))
}
