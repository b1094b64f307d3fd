//! Folders of links to a user's photos: which links are ours, so that nothing else is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::{made, read_sealed, write_json};
use crate::files;
use crate::run::stop::{as_argument, typed};

/// What the folders of links are called, before a number.
pub const PERSON: &str = "person-";

/// Files that file managers put into the folders that they show, in lower case: nobody's work, and made anew.
const PUT: [&str; 5] = [".ds_store", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini"];

/// What lies in the folder `at`: files that file managers put there, and all else.
fn entries(at: &Path) -> std::io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let put = |path: &PathBuf| {
        PUT.contains(&&*files::name(path).to_lowercase()) && path.symlink_metadata().is_ok_and(|found| found.is_file())
    };
    let all = fs::read_dir(at)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    Ok(all.into_iter().partition(put))
}

/// Whether the folder `at` holds folders of links that are called as ours, and nothing else but for a list of them.
fn unlisted_links(at: &Path) -> bool {
    let others = |at: &Path| entries(at).unwrap_or_default().1.into_iter();
    let mut folders = others(at).filter(|path| *path != at.join(LINKS)).peekable();
    folders.peek().is_some()
        && folders.all(|folder| {
            let links = others(&folder).all(|link| link.is_symlink());
            files::name(&folder).starts_with(PERSON) && folder.is_dir() && links
        })
}

/// In a folder of links of ours, the list of them.
const LINKS: &str = "links.json";

/// Says in the folder `at` that the links in folders of it, by their paths there, are ours, and where they lead.
///
/// # Errors
/// As [`write_json`].
pub fn links_made(at: &Path, links: &[PathBuf]) -> Result<()> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let leads = |link: &PathBuf| Ok((text(link), text(&fs::read_link(at.join(link))?).into()));
    let links = links.iter().map(leads).collect::<Result<Map<_, _>>>()?;
    write_json(&at.join(LINKS), LINKS, &json!({"links": links}))
}

/// The links in the folder `at`, all of which are ours: those that the list of them has and that still lead where it says. None
/// of a folder that is new or empty, but for what file managers put there.
///
/// # Errors
/// Where something else is there.
pub fn links_of(at: &Path) -> Result<Vec<PathBuf>> {
    let other = |path: &Path| {
        format!(
            "{}: this command did not make it, or not so: move it out of {}, or name another folder",
            path.display(),
            at.display()
        )
    };
    if at.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    ensure!(at.is_dir() && !at.is_symlink(), "{} is no folder: name a new one", at.display());
    let list = at.join(LINKS);
    let ours = made(&list, LINKS);
    ensure!(
        ours || !unlisted_links(at),
        "{}: {LINKS}, by which this command knows its own links, is {}: restore it, or name another folder; {} removes \
         nothing but links",
        at.display(),
        if list.exists() { "not as it was written" } else { "not there" },
        typed(["rm".into(), "-r".into(), as_argument(at)])
    );
    let known = if ours { read_sealed(&list)? } else { None };
    let known = known.map_or(Value::Null, |(mut known, _)| known["links"].take());
    // An older version listed them without where they lead.
    let older = known.as_array().into_iter().flatten().filter_map(|link| Some((at.join(link.as_str()?), &Value::Null)));
    let known: BTreeMap<PathBuf, &Value> =
        known.as_object().into_iter().flatten().map(|(link, leads)| (at.join(link), leads)).chain(older).collect();
    let folders: BTreeSet<&Path> = known.keys().filter_map(|link| link.parent()).collect();
    // One that was led elsewhere is its user's too.
    let leads_so = |link: &PathBuf| {
        let leads = fs::read_link(link).ok();
        let so = |leads: PathBuf| {
            known.get(link).is_some_and(|known| known.is_null() || **known == *leads.to_string_lossy())
        };
        leads.is_some_and(so)
    };
    let mut found = Vec::new();
    for folder in entries(at)?.1 {
        if ours && folder == list {
            continue;
        }
        // A folder of ours that was renamed is its user's.
        ensure!(folders.contains(&*folder) && !folder.is_symlink() && folder.is_dir(), other(&folder));
        for link in entries(&folder)?.1 {
            ensure!(leads_so(&link), other(&link));
            found.push(link);
        }
    }
    Ok(found)
}

/// Removes what [`links_of`] finds, their folders with what file managers put there, and the list of them last.
///
/// # Errors
/// As there, where nothing is removed; where the system refuses.
pub fn remove_links(at: &Path) -> Result<()> {
    let links = links_of(at)?;
    links.iter().try_for_each(fs::remove_file)?;
    if !at.exists() {
        return Ok(());
    }
    let (put, others) = entries(at)?;
    for folder in others.iter().filter(|path| path.is_dir()) {
        entries(folder)?.0.iter().try_for_each(fs::remove_file)?;
        fs::remove_dir(folder)?;
    }
    put.iter().try_for_each(fs::remove_file)?;
    if at.join(LINKS).exists() { Ok(fs::remove_file(at.join(LINKS))?) } else { Ok(()) }
}
