//! Photos of a gallery that are nearest to a query's: what re-identification is for.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use rayon::prelude::*;
use serde_json::json;
use tch::{Kind, Tensor};

use super::Rows;
use super::brought::{Asked, Brought, PICTURES, Use, tile, write_folder};
use super::kept::{self, NOT_READ};
use crate::datasets::{self, Photo};
use crate::metrics::others::tall;
use crate::metrics::retrieval::{self, Hit, Identity, QueryGallery};
use crate::outputs::hold_folder;
use crate::real::{index, numbers};
use crate::report::{Frame, GalleryRow, Report, Table};
use crate::run::folder::REPORT;
use crate::say::{count, line, print, print_lines, thousands};

/// The verb `search`: what of a gallery is nearest to each query.
pub const SEARCH: Use = Use {
    name: "search",
    flags: |verb: Command| {
        SearchFlags::augment_args(verb).about("The photos of a gallery nearest to each query: answers.json, a page")
    },
    scoring: &["views", "order"],
    work: search,
};

#[derive(Args)]
struct SearchFlags {
    /// Photos to search for, or folders of such; none is its own answer
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    query: Vec<PathBuf>,
    /// Photos to search among, or folders that are searched with their subfolders; a query's own camera counts, which evaluate leaves out
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    gallery: Vec<PathBuf>,
    /// Answers a query
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = crate::bounds::within(1..=100_000_usize))]
    top: usize,
    /// Folder to write: answers.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The first answers to a query: places in the gallery and distances.
type Answers = Vec<(usize, f64)>;

/// Queries and a gallery as far as they can be read, answers, and what was left out.
struct Answered {
    query: Vec<Photo>,
    gallery: Vec<Photo>,
    answers: Vec<Answers>,
    left_out: Rows,
}

fn search(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const FILE: (&str, &str) = ("answers.json", "answers");
    const PAGE: (&str, &str) = (REPORT, "Search");
    let flags = SearchFlags::from_arg_matches(of)?;
    let _held = hold_folder(&flags.out, &[FILE, PAGE], &[&flags.gallery, &flags.query])?;
    let photos = [Brought::photos(&flags.query)?, Brought::photos(&flags.gallery)?];
    let compares = (asked.compare)(&[], &[])?.is_some();
    let found = if compares { compared(asked, photos, flags.top)? } else { embedded(asked, photos, flags.top)? };
    let Answered { query, gallery, answers, left_out } = found;
    let top = answers.iter().map(Vec::len).max().unwrap_or(0);
    ensure!(top > 0, "--gallery: all of its photos are those of --query: name others");
    let name = |i: usize| &*gallery[i].name;
    let answer = |&(i, distance): &(usize, f64)| json!({"photo": name(i), "distance": distance});
    let of_query = |(photo, answers): (&Photo, &Answers)| json!({"query": *photo.name, "answers": answers.iter().map(answer).collect::<Vec<_>>()});
    let queries: Vec<_> = query.iter().zip(&answers).map(of_query).collect();
    let value = json!({"gallery": gallery.len(), "queries": queries});
    let head = ["query", "", "photo", "distance"];
    let row = |photo: &Photo, rank: usize, (i, distance): (usize, f64)| {
        vec![line(&photo.name), (rank + 1).to_string(), line(name(i)), format!("{distance:.4}")]
    };
    let each = |(photo, answers): (&Photo, &Answers)| {
        answers.iter().enumerate().map(|(rank, &answer)| row(photo, rank, answer)).collect::<Vec<_>>()
    };
    let shown = (PICTURES / (top + 1)).max(1).min(query.len());
    let says = format!(
        "The {}nearest of {} to each of {}.",
        if top == 1 { String::new() } else { format!("{} ", thousands(top)) },
        count(gallery.len(), "photo"),
        count(query.len(), "query")
    );
    let says = asked.says(&says, &left_out);
    print(&says)?;
    print_lines(Table::new(head, query.iter().zip(&answers).take(shown).flat_map(each)))?;
    let strip = |(photo, answers): (&Photo, &Answers)| {
        let mut tiles = vec![tile(photo, "query".into(), Frame::None)?];
        for (rank, &(i, distance)) in answers.iter().enumerate().take(PICTURES - 1) {
            tiles.push(tile(&gallery[i], format!("{} · {distance:.3} · {}", rank + 1, name(i)), Frame::Plain)?);
        }
        Ok(GalleryRow { title: photo.name.to_string(), tiles })
    };
    let strips = query.iter().zip(&answers).take(shown).map(strip).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(PAGE.1, asked.paper.1);
    report.answers(&says);
    report.counts(&[
        ("query", "queries", query.len()),
        ("photo searched", "photos searched", gallery.len()),
        ("answer a query", "answers a query", top),
    ]);
    report.gallery(
        "Queries and their nearest photos",
        &format!(
            "The query first, then its answers with rank and distance; {shown} of {}. A query is no answer to itself, but may be one to another.",
            count(query.len(), "query")
        ),
        &strips,
    );
    write_folder(asked, &flags.out, FILE, (value, None), &left_out, report)
}

/// By a network that compares two photos, some queries at a time.
fn compared(asked: &Asked<'_>, photos: [Vec<Photo>; 2], top: usize) -> Result<Answered> {
    let [query, gallery] = photos;
    let (query, gone) = datasets::brought(query, asked.skip_unreadable)?;
    let (gallery, more) = datasets::brought(gallery, asked.skip_unreadable)?;
    let left_out = Rows { metadata: kept::left_out(NOT_READ, &[gone, more].concat()), ..Rows::default() };
    let (itself, mut answers) = (Itself::new(&query, &gallery), Vec::new());
    for part in query.chunks(tall(gallery.len())) {
        let (ranked, by) = (asked.compare)(part, &gallery)?.context("no comparison")?;
        let near = itself.nearest(&ranked, top, answers.len())?.into_iter();
        answers.extend(near.map(|near| near.into_iter().map(|(i, x)| (i, by.shown(x))).collect::<Answers>()));
    }
    Ok(Answered { query, gallery, answers, left_out })
}

/// By embeddings.
fn embedded(asked: &Asked<'_>, [query, gallery]: [Vec<Photo>; 2], top: usize) -> Result<Answered> {
    let queries = query.len();
    let sides = [("query", queries), ("gallery", gallery.len())];
    let mut rows = (asked.embed)([query, gallery].concat(), &sides)?;
    let q = rows.places.iter().filter(|&&place| place < queries).count();
    ensure!(q > 0, "--query: none of its photos can be read: name others");
    ensure!(q < rows.names.len(), "--gallery: none of its photos can be read: name others");
    let x = &rows.tensors.first().context("no embeddings")?.1;
    let (query, gallery) = (rows.photos[..q].to_vec(), rows.photos.split_off(q));
    let known = x.narrow(0, q as i64, gallery.len() as i64);
    let itself = Itself::new(&query, &gallery);
    let nobody = vec![Identity { person: 0, camera: 0 }; q.max(gallery.len())];
    let own = x.narrow(0, 0, q as i64);
    let of = QueryGallery::new(&own, &known, &nobody[..q], &nobody[..gallery.len()]);
    // Some more than are asked for: rounding may change places at the cut.
    let near = retrieval::ranking(of, asked.metric, top + itself.most() + 8);
    // Of so few the distances are taken again, from differences: rounding is not to tell equal photos apart.
    let exact = |(i, near): (usize, Vec<Hit>)| {
        let places: Vec<usize> = near.iter().map(|hit| hit.index).collect();
        let rows = known.index_select(0, &index(places.iter().copied()));
        let far = asked.metric.paired(&own.narrow(0, i as i64, 1), &rows);
        let mut near: Answers = places.into_iter().zip(numbers(&far.to_kind(Kind::Double))).collect();
        near.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        itself.without(i, near.into_iter(), top)
    };
    let answers = near.into_iter().enumerate().map(exact).collect();
    Ok(Answered { query, gallery, answers, left_out: rows })
}

/// Where in the gallery each query's own file is, which is no answer.
struct Itself(Vec<Vec<usize>>);

impl Itself {
    fn new(query: &[Photo], gallery: &[Photo]) -> Itself {
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, path) in gallery.par_iter().map(kept::full).collect::<Vec<_>>().into_iter().enumerate() {
            path.into_iter().for_each(|path| places.entry(path).or_default().push(i));
        }
        Itself(
            query
                .iter()
                .map(|photo| kept::full(photo).and_then(|path| places.get(&path).cloned()).unwrap_or_default())
                .collect(),
        )
    }

    /// The longest list of a query's own.
    fn most(&self) -> usize {
        self.0.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The first `top` answers to query `i` that are not itself.
    fn without(&self, i: usize, all: impl Iterator<Item = (usize, f64)>, top: usize) -> Answers {
        all.filter(|(place, _)| !self.0[i].contains(place)).take(top).collect()
    }

    /// The `top` smallest of each row of `[q, G]`, the first first, for the queries from number `from` on.
    fn nearest(&self, distances: &Tensor, top: usize, from: usize) -> Result<Vec<Answers>> {
        let most = (top + self.most()).min(distances.size()[1] as usize);
        let (near, places) = distances.topk(most as i64, 1, false, true);
        let (near, places) =
            (Vec::<Vec<f64>>::try_from(near.to_kind(Kind::Double))?, Vec::<Vec<i64>>::try_from(places)?);
        let row = |(row, (near, places)): (usize, (Vec<f64>, Vec<i64>))| {
            self.without(from + row, places.into_iter().map(|i| i as usize).zip(near), top)
        };
        Ok(near.into_iter().zip(places).enumerate().map(row).collect())
    }
}
