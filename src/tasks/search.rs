//! Photos of a gallery that are nearest to a query's: what re-identification is for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use rayon::prelude::*;
use serde_json::json;
use tch::{Kind, Tensor};

use super::brought::{Asked, Brought, PICTURES, Use, apart, check_folder, tile, write_folder};
use crate::datasets::Photo;
use crate::report::{Frame, GalleryRow, Report, Table};
use crate::run::folder::check_out;
use crate::say::{line, print, say};
use crate::weights;

/// `search`.
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
    /// Photos to search for, or folders of such
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    query: Vec<PathBuf>,
    /// Photos to search among, or folders that are searched with their subfolders
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    gallery: Vec<PathBuf>,
    /// Answers a query
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = crate::bounds::within(1..=100_000_usize))]
    top: usize,
    /// Folder to write: answers.json, report.html and, of a network that embeds, gallery.safetensors, which the next search in the same photos takes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The first answers to a query: places in the gallery and distances.
type Answers = Vec<(usize, f64)>;

fn search(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const NAME: &str = "answers.json";
    let flags = SearchFlags::from_arg_matches(of)?;
    check_folder(&flags.out, NAME, &["gallery", "queries"])?;
    apart("out", &flags.out, &flags.gallery)?;
    let (query, gallery) = (Brought::photos(&flags.query)?, Brought::photos(&flags.gallery)?);
    let top = flags.top.min(gallery.len());
    let answers = match compared(asked, &query, &gallery, top)? {
        Some(answers) => answers,
        None => embedded(asked, &query, &gallery, top, &flags.out)?,
    };
    let name = |i: usize| &*gallery[i].name;
    let answer = |&(i, distance): &(usize, f64)| json!({"photo": name(i), "distance": distance});
    let of_query = |(photo, answers): (&Photo, &Answers)| json!({"query": *photo.name, "answers": answers.iter().map(answer).collect::<Vec<_>>()});
    let queries: Vec<_> = query.iter().zip(&answers).map(of_query).collect();
    let value = json!({"gallery": gallery.len(), "queries": queries});
    let head = ["query", "", "photo", "distance"].map(String::from).to_vec();
    let row = |photo: &Photo, rank: usize, (i, distance): (usize, f64)| {
        vec![line(&photo.name), (rank + 1).to_string(), line(name(i)), format!("{distance:.4}")]
    };
    let each = |(photo, answers): (&Photo, &Answers)| {
        answers.iter().enumerate().map(|(rank, &answer)| row(photo, rank, answer)).collect::<Vec<_>>()
    };
    let shown = (PICTURES / (top + 1)).max(1).min(query.len());
    print(Table { head, rows: query.iter().zip(&answers).take(shown).flat_map(each).collect() })?;
    let strip = |(photo, answers): (&Photo, &Answers)| {
        let mut tiles = vec![tile(photo, "query".into(), Frame::None)?];
        for (rank, &(i, distance)) in answers.iter().enumerate().take(PICTURES - 1) {
            tiles.push(tile(&gallery[i], format!("{} · {distance:.3} · {}", rank + 1, name(i)), Frame::Plain)?);
        }
        Ok(GalleryRow { title: photo.name.to_string(), tiles })
    };
    let strips = query.iter().zip(&answers).take(shown).map(strip).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new("Search", asked.paper.1);
    let facts = [("queries", query.len()), ("gallery", gallery.len()), ("answers a query", top)];
    report.facts(&facts.map(|(name, value)| (name.to_string(), value.to_string())));
    report.gallery(
        "Queries and their nearest photos",
        &format!("The query first, then its answers with rank and distance; {shown} of {} queries.", query.len()),
        &strips,
    );
    write_folder(&flags.out, NAME, &value, &report)
}

/// By a network that compares two photos, some queries at a time; None of others.
fn compared(asked: &Asked<'_>, query: &[Photo], gallery: &[Photo], top: usize) -> Result<Option<Vec<Answers>>> {
    let mut all = Vec::new();
    for part in query.chunks(((1 << 26) / gallery.len()).max(1)) {
        let Some((ranked, by)) = (asked.compare)(part, gallery)? else { return Ok(None) };
        let shown = |(i, x): (usize, f64)| (i, by.shown(x));
        all.extend(nearest(&ranked, top)?.into_iter().map(|answers| answers.into_iter().map(shown).collect()));
    }
    Ok(Some(all))
}

/// By embeddings, those of the gallery out of its file where that is of these photos in this order and of this network.
fn embedded(asked: &Asked<'_>, query: &[Photo], gallery: &[Photo], top: usize, out: &Path) -> Result<Vec<Answers>> {
    std::fs::create_dir_all(out)
        .with_context(|| format!("--out {}: name a folder that can be written", out.display()))?;
    // A file of embed's has names, too.
    let ours = |at: &Path| weights::metadata(at).is_some_and(|kept| kept.contains_key("known"));
    let file = check_out(&out.join("gallery.safetensors"), ours)?;
    let seen = |photo: &Photo| {
        let path = photo.source.path().and_then(|path| path.canonicalize().ok());
        let found = path.as_ref().and_then(|path| path.metadata().ok());
        format!("{:?}", (path, found.map(|found| (found.len(), found.modified().ok()))))
    };
    let seen: Vec<String> = gallery.par_iter().map(seen).collect();
    let known = format!("{} {}", (asked.known)()?, blake3::hash(seen.concat().as_bytes()).to_hex());
    let names = serde_json::to_string(&gallery.iter().map(|photo| &*photo.name).collect::<Vec<_>>())?;
    let metadata = HashMap::from([("known".to_string(), known), ("names".to_string(), names)]);
    let kept = weights::metadata(&file)
        .is_some_and(|kept| metadata.iter().all(|(key, now)| kept.get(key).is_some_and(|kept| kept == now)));
    let photos = if kept { query.to_vec() } else { [query, gallery].concat() };
    let rows = (asked.embed)(&Brought::of(photos))?;
    let x = &rows.tensors.first().context("no embeddings")?.1;
    let q = query.len() as i64;
    let stored = if kept {
        say(format!("the gallery's embeddings are those of {}", file.display()));
        let mut named = weights::read(&file)?;
        ensure!(named.len() == 1, "{}: remove it", file.display());
        named.remove(0).1
    } else {
        let g = x.narrow(0, q, gallery.len() as i64).copy();
        weights::save(&file, &[("embeddings".into(), g.shallow_clone())], Some(metadata))?;
        g
    };
    let mut all = Vec::new();
    for part in x.narrow(0, 0, q).split(64, 0) {
        all.extend(nearest(&asked.metric.matrix(&part, &stored), top)?);
    }
    Ok(all)
}

/// The `top` smallest of each row of `[Q, G]`, the first first.
fn nearest(distances: &Tensor, top: usize) -> Result<Vec<Answers>> {
    let (near, places) = distances.to_kind(Kind::Double).topk(top as i64, 1, false, true);
    let (near, places) = (Vec::<Vec<f64>>::try_from(near)?, Vec::<Vec<i64>>::try_from(places)?);
    let row = |(near, places): (Vec<f64>, Vec<i64>)| places.into_iter().map(|i| i as usize).zip(near).collect();
    Ok(near.into_iter().zip(places).map(row).collect())
}
