//! EPIC-Skills 2018 as its authors released it: `annotations/<Task>/<task>_gt.csv` and
//! `annotations/<Task>/splits/<task>_{train,val}_<fold>.csv`. Any data set of that layout is read.
//!
//! The release's quirks: lines may end in CRLF, rows in a comma; the third column is called `Best` or `Better`; two
//! pairs stand three times, in the folds too, and are kept so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::pair_graph::PairGraph;
use super::skills::{Fold, Pair, SkillSet, SkillTask, TaskCounts};
use crate::files;
use crate::folders::{Entry, Passed, list, near};
use crate::lists::{Record, records};
use crate::video::{Cache, Clip, number};

/// The paper's data sets and their tasks, which are trained together, in the order of its tables.
const SETS: [(&str, &[&str]); 4] = [
    ("surgery", &["Knot_Tying", "Needle_Passing", "Suturing"]),
    ("dough", &["Dough_Rolling"]),
    ("drawing", &["Sonic_Drawing", "Hand_Drawing"]),
    ("chopsticks", &["Chopstick_Using"]),
];

/// Table 1 in per cent, with the released numbers of videos and rows.
const TABLE_1: [(&str, usize, usize, [usize; 3]); 7] = [
    ("Knot_Tying", 36, 596, [95, 5, 100]),
    ("Needle_Passing", 28, 362, [96, 4, 100]),
    ("Suturing", 39, 701, [95, 5, 100]),
    ("Dough_Rolling", 33, 181, [34, 18, 52]),
    ("Sonic_Drawing", 20, 118, [62, 37, 99]),
    ("Hand_Drawing", 20, 129, [68, 26, 94]),
    ("Chopstick_Using", 40, 536, [69, 10, 79]),
];

/// Pairs of each fold of the release: strict to train, similar to train, strict to test.
const FOLDS: [(&str, [[usize; 3]; 4]); 4] = [
    ("surgery", [[883, 45, 776], [856, 46, 803], [964, 67, 695], [1000, 51, 659]]),
    ("dough", [[106, 59, 75], [96, 61, 85], [97, 48, 84], [100, 45, 81]]),
    ("drawing", [[127, 73, 120], [140, 60, 107], [148, 56, 99], [127, 78, 120]]),
    ("chopsticks", [[314, 35, 222], [280, 57, 256], [299, 42, 237], [299, 39, 237]]),
];

/// Reads all sets under `dir`: the paper's four by their names, in its order; any other task is a set of its own.
///
/// # Errors
/// One line that names the file: no annotations, an unreadable or malformed file, judgements that contradict each
/// other or go round in a cycle, folds that are not a partition of the judged pairs.
pub fn open(dir: &Path) -> Result<Vec<SkillSet>> {
    let root = dir.join("annotations");
    ensure!(
        dir.is_dir(),
        "no folder {}: it should hold annotations/ ({} gets the paper's)",
        dir.display(),
        crate::catalog::fetch("epic-skills")
    );
    if !root.is_dir() {
        let set = |at: &Path| at.join("annotations").is_dir();
        bail!(
            "{} is missing: EPIC-Skills has annotations/<Task>/<task>_gt.csv and splits/ beside it{}",
            root.display(),
            near(dir, set, set).map_or_else(String::new, |give| format!(": {give}"))
        );
    }
    let folders: BTreeMap<String, PathBuf> = list(&root, &mut Passed::default())?
        .into_iter()
        .filter(|e| e.folder)
        .map(|e| (e.name.to_string(), e.path()))
        .collect();
    ensure!(!folders.is_empty(), "{} holds no task folders", root.display());
    let mut sets = Vec::new();
    for (name, tasks) in SETS {
        let here: Vec<(&String, &PathBuf)> = tasks.iter().filter_map(|task| folders.get_key_value(*task)).collect();
        if !here.is_empty() {
            let mut set = read_set(name, &here)?;
            if here.len() < tasks.len() {
                set.notes.push(format!("not the whole set: it has {} of {} tasks", here.len(), tasks.len()));
            }
            sets.push(set);
        }
    }
    let known: BTreeSet<&str> = SETS.iter().flat_map(|(_, tasks)| tasks.iter().copied()).collect();
    for (name, path) in folders.iter().filter(|(name, _)| !known.contains(name.as_str())) {
        sets.push(read_set(name, &[(name, path)])?);
    }
    Ok(sets)
}

/// Reads one set under `dir` by its name (the paper's: surgery, dough, drawing, chopsticks).
///
/// # Errors
/// As [`open`], and where there is no set of that name.
pub fn open_one(dir: &Path, name: &str) -> Result<SkillSet> {
    let mut sets = open(dir)?;
    let names = sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>().join(", ");
    let place = sets.iter().position(|set| set.name.eq_ignore_ascii_case(name));
    let place = place.with_context(|| format!("--task {name}: {} has {names}", dir.display()))?;
    Ok(sets.swap_remove(place))
}

/// The videos of a set, from `videos/<Task>/`, with the flow of `flow/<Task>/`; where `<task>_segments.csv` stands in
/// `dir`, only the listed frames of each count, both ends in, from 1 (the release does not say from where it counts).
///
/// # Errors
/// One line: a video that is missing or cannot be told from another, a list of segments that does not fit.
pub fn clips(dir: &Path, set: &SkillSet, cache: &Arc<Cache>) -> Result<Vec<Clip>> {
    let (wanted, missing) = files_of(dir, set)?;
    let count = missing.len();
    if let Some(first) = missing.into_iter().next() {
        ensure!(count == 1, "{count} of {} videos cannot be used, the first: {first:#}", set.videos.len());
        return Err(first);
    }
    Clip::open_all(wanted, cache)
}

/// What [`crate::video::leaps`] says of found videos.
pub fn leaps(found: &NamedFiles) -> Option<String> {
    crate::video::leaps(found.iter().map(|(title, _, files)| (&**title, files)))
}

/// Videos with their titles and places.
pub type NamedFiles = Vec<(String, u32, crate::video::VideoFiles)>;

/// The files of all videos of a set, and why those that cannot be used cannot.
///
/// # Errors
/// One line: a list of segments that does not fit.
pub fn files_of(dir: &Path, set: &SkillSet) -> Result<(NamedFiles, Vec<anyhow::Error>)> {
    const END: &str = "_segments.csv";
    let file = |task: &str| task.to_lowercase() + END;
    let tasks: BTreeSet<String> =
        list(&dir.join("annotations"), &mut Passed::default())?.iter().map(|task| file(&task.name)).collect();
    // One that is misspelt would leave films whole in silence.
    let all = list(dir, &mut Passed::default())?;
    if let Some(odd) =
        all.iter().find(|entry| entry.name.to_lowercase().ends_with(END) && !tasks.contains(&*entry.name))
    {
        let names = tasks.into_iter().collect::<Vec<_>>().join(", ");
        bail!("{}: segments of no task: remove it, or name it as a task's: {names}", odd.path().display());
    }
    let (mut wanted, mut missing) = (Vec::with_capacity(set.videos.len()), Vec::new());
    for task in &set.tasks {
        let segments = dir.join(file(&task.name));
        let parts = if segments.is_file() { Some(read_segments(&segments)?) } else { None };
        for place in task.videos.clone() {
            match video(dir, set, place, parts.as_ref().map(|parts| (&segments, parts))) {
                Ok(found) => wanted.push((set.title(place), place as u32, found)),
                Err(error) => missing.push(error),
            }
        }
    }
    Ok((wanted, missing))
}

/// A video of a list of segments, and its first and last frame.
type Segment = (String, (usize, usize));

/// The files of the video at `place`, with its part where there is a list of segments.
fn video(
    dir: &Path,
    set: &SkillSet,
    place: usize,
    parts: Option<(&PathBuf, &Vec<Segment>)>,
) -> Result<crate::video::VideoFiles> {
    let (name, task) = (&set.videos[place], &set.task(place).name);
    let mut found = crate::video::find(&dir.join("videos").join(task), &dir.join("flow").join(task), name)?;
    let Some((segments, parts)) = parts else { return Ok(found) };
    let part = match crate::video::meant(parts, |(video, _)| video, name)[..] {
        [&(_, part)] => part,
        [] => bail!("{}: no row for {name}", segments.display()),
        [(a, _), (b, _), ..] => {
            bail!("{}: the rows of {a} and of {b} are both for {name}: leave one", segments.display())
        }
    };
    place_part(&mut found, part).with_context(|| {
        let again = format!("make its frames again with scripts/convert frames --segments {}", segments.display());
        format!("{}: {again}", set.title(place))
    })?;
    Ok(found)
}

/// Frames `part` alone of what was found; pictures that were cut so already count whole.
fn place_part(found: &mut crate::video::VideoFiles, part: (usize, usize)) -> Result<()> {
    match found.cut {
        Some(cut) if cut == part => {}
        Some((first, last)) => {
            bail!("they are {first} to {last} of the film, and the list says {} to {}", part.0, part.1)
        }
        None if found.resampled => bail!("they have another rate than the film, whose frames the list counts"),
        None => found.part = Some(by_number(&found.frames, part)?),
    }
    Ok(())
}

/// The places, from 1, of the pictures whose numbers are those of `part`; of a film, `part` itself. A folder that counts from
/// 0 has frame 1 there.
fn by_number(frames: &[PathBuf], part: (usize, usize)) -> Result<(usize, usize)> {
    let mut first = 1;
    for (place, path) in frames.iter().enumerate() {
        let number = number(path).with_context(|| format!("{}: no number in its name", path.display()))?;
        if place == 0 {
            first = number;
        }
        ensure!(
            number == first + place,
            "{}: its number should be {}: a picture is missing before it, or a number stands twice",
            path.display(),
            first + place
        );
    }
    let first = first.max(1);
    ensure!(part.0 >= first, "frame {} is asked for, and the first picture is number {first}", part.0);
    Ok((part.0 - first + 1, (part.1 + 1).saturating_sub(first)))
}

/// Video, first and last frame (counted from 1) of each row.
fn read_segments(path: &Path) -> Result<Vec<Segment>> {
    let (_, rows) = read_csv(path, 3)?;
    let row = |Record { line, fields }: Record| match (fields[1].parse(), fields[2].parse()) {
        (Ok(first), Ok(last)) => Ok((fields[0].clone(), (first, last))),
        _ => bail!("{}:{line}: {} to {} are no frame numbers", path.display(), fields[1], fields[2]),
    };
    rows.into_iter().map(row).collect()
}

/// Tasks one after another into one set, fold k with fold k.
fn read_set(name: &str, tasks: &[(&String, &PathBuf)]) -> Result<SkillSet> {
    let names: Vec<&str> = tasks.iter().map(|(task, _)| task.as_str()).collect();
    let whole = SETS.iter().any(|(known, all)| *known == name && *all == names);
    let mut set = SkillSet {
        name: name.into(),
        videos: Vec::new(),
        tasks: Vec::new(),
        folds: Vec::new(),
        published: FOLDS.iter().find(|(known, _)| whole && *known == name).map(|(_, folds)| folds.to_vec()),
        notes: Vec::new(),
    };
    for (place, (task, path)) in tasks.iter().enumerate() {
        let folds = read_task(task, path, &mut set)?;
        if place == 0 {
            set.folds = vec![Fold::default(); folds.len()];
        }
        ensure!(
            folds.len() == set.folds.len(),
            "{}: {} folds, and {} in the task before it: tasks that are trained together need equally many",
            path.display(),
            folds.len(),
            set.folds.len()
        );
        for (all, mut more) in set.folds.iter_mut().zip(folds) {
            all.train.append(&mut more.train);
            all.similar.append(&mut more.similar);
            all.test.append(&mut more.test);
            all.held.append(&mut more.held);
        }
    }
    set.notes.extend(set.unlike_published());
    Ok(set)
}

/// Adds a task to `set` and gives its folds.
fn read_task(name: &str, dir: &Path, set: &mut SkillSet) -> Result<Vec<Fold>> {
    let mut found = list(dir, &mut Passed::default())?;
    found.retain(|entry: &Entry| !entry.folder && entry.name.ends_with("_gt.csv"));
    let [file] = &found[..] else {
        bail!("{} holds {} files named *_gt.csv: it should hold one", dir.display(), found.len());
    };
    let stem = file.name.trim_end_matches("_gt.csv");
    let judged = read_gt(&file.path())?;
    ensure!(!judged.is_empty(), "{}: no judged pairs", file.path().display());
    let names: BTreeSet<&String> = judged.iter().flat_map(|(a, b)| [a, b]).collect();
    let start = set.videos.len();
    let place: BTreeMap<&String, usize> = names.iter().copied().zip(start..).collect();
    let rows: Vec<Pair> = judged.iter().map(|(a, b)| (place[a], place[b])).collect();
    let local: Vec<Pair> = rows.iter().map(|&(a, b)| (a - start, b - start)).collect();
    let graph = PairGraph::new(names.len(), &local).map_err(|tangle| {
        let by_place: Vec<&String> = names.iter().copied().collect();
        let what = tangle.words(|video| by_place[video].clone());
        anyhow::anyhow!("{}: {what}: remove one judgement of each", file.path().display())
    })?;
    let mut counts: BTreeMap<Pair, usize> = BTreeMap::new();
    rows.iter().for_each(|&pair| *counts.entry(pair).or_default() += 1);
    let title = |pair: Pair, names: &BTreeSet<&String>| {
        let name = |i: usize| names.iter().nth(i - start).map_or("?", |name| name.as_str());
        format!("{} > {}", name(pair.0), name(pair.1))
    };
    for (&pair, &count) in counts.iter().filter(|(_, count)| **count > 1) {
        set.notes.push(format!("{name}: {} stands {count} times, kept so", title(pair, &names)));
    }

    let splits = dir.join("splits");
    let mut folds = Vec::new();
    let similar = graph.similar();
    for k in 1.. {
        let files = ["train", "val"].map(|part| splits.join(format!("{stem}_{part}_{k}.csv")));
        if files.iter().all(|file| !file.exists()) {
            // A fold that is missing in the middle would leave fewer folds in silence.
            let file = |(k, part): (usize, &str)| splits.join(format!("{stem}_{part}_{k}.csv"));
            let later = (k + 1..k + 100).flat_map(|k| [(k, "train"), (k, "val")]).map(file).find(|file| file.exists());
            if let Some(later) = later {
                bail!("{} is missing and {} is there: fetch the folds again", files[0].display(), later.display());
            }
            break;
        }
        let mut parts = Vec::new();
        for file in &files {
            let pair = |(line, a, b): (usize, String, String)| match (place.get(&a), place.get(&b)) {
                (Some(&a), Some(&b)) => Ok((a, b)),
                (known, _) => {
                    let odd = if known.is_some() { b } else { a };
                    bail!("{}:{line}: the video {odd} is not in {}", file.display(), files::name(&found[0].path()))
                }
            };
            parts.push(read_split(file)?.into_iter().map(pair).collect::<Result<Vec<Pair>>>()?);
        }
        let (test, train) = (parts.pop().unwrap_or_default(), parts.pop().unwrap_or_default());
        let mut left = counts.clone();
        for pair in train.iter().chain(&test) {
            match left.get_mut(pair) {
                Some(count) if *count > 0 => *count -= 1,
                _ => bail!("{}: {} is not in the ground truth as often", files[0].display(), title(*pair, &names)),
            }
        }
        if let Some((&pair, _)) = left.iter().find(|(_, count)| **count > 0) {
            bail!("{}: {} is neither there nor in the other part of fold {k}", files[0].display(), title(pair, &names));
        }
        let trained: BTreeSet<usize> = train.iter().flat_map(|&(a, b)| [a, b]).collect();
        if let Some(&pair) = test.iter().find(|(a, b)| trained.contains(a) && trained.contains(b)) {
            bail!(
                "{}: {} is a test pair of two training videos: move it to the training part",
                files[1].display(),
                title(pair, &names)
            );
        }
        let inside = |&(a, b): &Pair| trained.contains(&(a + start)) && trained.contains(&(b + start));
        let similar = similar.iter().filter(|pair| inside(pair)).map(|&(a, b)| (a + start, b + start)).collect();
        let held = (start..start + names.len()).filter(|video| !trained.contains(video)).collect();
        folds.push(Fold { train, similar, test, held });
    }
    ensure!(
        !folds.is_empty(),
        "{}: no {stem}_train_1.csv and {stem}_val_1.csv there: the folds are missing",
        splits.display()
    );
    let published = TABLE_1.iter().find(|row| row.0 == name);
    let published = published.map(|&(_, videos, rows, percent)| TaskCounts { videos, rows, percent });
    let videos = start..start + names.len();
    set.videos.extend(names.into_iter().cloned());
    set.tasks.push(SkillTask { name: name.into(), videos, rows, graph, published });
    Ok(folds)
}

/// The first row's fields and the others, each with `columns` fields that are not empty; trailing empty ones go.
fn read_csv(path: &Path, columns: usize) -> Result<(Vec<String>, Vec<Record>)> {
    let mut all = records(path)?;
    for Record { line, fields } in &mut all {
        fields.truncate(fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1));
        ensure!(
            fields.len() == columns && fields.iter().all(|field| !field.is_empty()),
            "{}:{line}: {} columns where there should be {columns}",
            path.display(),
            fields.len()
        );
    }
    ensure!(!all.is_empty(), "{}: an empty file", path.display());
    Ok((all.remove(0).fields, all))
}

fn is(field: &str, names: &[&str]) -> bool {
    names.iter().any(|name| field.eq_ignore_ascii_case(name))
}

/// (better, worse) of each row of `*_gt.csv`, in the file's order.
fn read_gt(path: &Path) -> Result<Vec<(String, String)>> {
    let (head, rows) = read_csv(path, 3)?;
    ensure!(
        is(&head[0], &["Vid1"]) && is(&head[1], &["Vid2"]) && is(&head[2], &["Best", "Better"]),
        "{}: its first line is {:?}, not Vid1,Vid2,Best",
        path.display(),
        head.join(",")
    );
    let row = |Record { line, fields }: Record| match &fields[..] {
        [a, b, _] if a == b => bail!("{}:{line}: {a} is compared with itself", path.display()),
        [a, b, best] if best == a => Ok((a.clone(), b.clone())),
        [a, b, best] if best == b => Ok((b.clone(), a.clone())),
        _ => bail!("{}:{line}: the best, {}, is neither {} nor {}", path.display(), fields[2], fields[0], fields[1]),
    };
    rows.into_iter().map(row).collect()
}

/// (line, better, worse) of each row of a fold's file.
fn read_split(path: &Path) -> Result<Vec<(usize, String, String)>> {
    let (head, rows) = read_csv(path, 2)?;
    ensure!(
        is(&head[0], &["Better", "Best"]) && is(&head[1], &["Worse"]),
        "{}: its first line is {:?}, not Better,Worse",
        path.display(),
        head.join(",")
    );
    let row = |Record { line, fields }: Record| {
        let [a, b]: [String; 2] = fields.try_into().ok().with_context(|| format!("{}:{line}", path.display()))?;
        Ok((line, a, b))
    };
    rows.into_iter().map(row).collect()
}
