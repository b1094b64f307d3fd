//! Data sets on disk, and drawn ones. Here: what their loaders share, for folders that are not what they look like.
//! [`ReidSet`] has people by their cameras, [`faces`] has faces, [`labels`] photos with labels, [`skills`] videos.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::folders::{Entry, Identities, Passed, held, identities, images, is_tree, list, named, near};
use crate::say::{count, plural, thousands};
use crate::{catalog, files};

pub use crate::source::Source;
pub use card::Card;
pub use folder::{Decode, brought, folder, left_out, readable, unusable};
pub(crate) use look::look;
use look::looked_at;
pub use look::{Look, check};
pub use reader::{Fits, Reader};
pub(crate) use reid::too_few;
pub use reid::{Layout, ReidSet, open, open_split};
use reid::{copies, has_layout, namesakes, need_folder, turned};
pub use split::{Split, SplitPeople, split_people, tested};

mod card;
pub mod drawn;
pub mod epic_skills;
pub mod faces;
mod folder;
pub mod labels;
mod look;
mod market1501;
mod mars;
pub mod pair_graph;
mod reader;
mod reid;
pub mod skills;
mod split;
mod tree;

/// One image of one person.
#[derive(Clone, Debug)]
pub struct Photo {
    /// Where its pixels are, and through what they are seen.
    pub source: Source,
    /// Its path within the set, with `/` between folders.
    pub name: Arc<str>,
    /// The person: above 0; 0 is a distractor (nobody's query), -1 junk (left out of every ranking).
    pub person: i64,
    /// The camera, from 1.
    pub camera: i64,
    /// The tracklet, from 1; -1 in sets without tracklets. Photos of one tracklet follow each other.
    pub tracklet: i64,
}

impl Photo {
    /// One of no tracklet.
    pub fn new(source: Source, name: Arc<str>, person: i64, camera: i64) -> Photo {
        Photo { source, name, person, camera, tracklet: -1 }
    }
}

/// Folders that hold a part of a set, in small letters and digits alone. One that holds images itself is no person: a layout
/// of another kind was meant, or this one is misspelt.
const PARTS: &str = "train training test testing val valid validation unlabeled query gallery images jpegimages \
    segmentationclass segmentationobject campus cama camb labeled labelled detected imageslabeled imagesdetected \
    boundingboxtrain boundingboxtest bboxtrain bboxtest boxtrain boxtest gtbbox";

/// The sides of a tree that is parted.
const SIDES: [&str; 2] = ["train", "test"];

/// Refuses a tree that is a part of a set by the names above it, in which a person has a part's name (of a year, as COCO's),
/// or MARS's name for nobody.
fn no_part<T>(dir: &Path, people: &BTreeMap<String, T>) -> Result<()> {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    for (set, part, deep) in [
        ("MARS", "bbox_train", 1),
        ("MARS", "bbox_test", 1),
        ("YouTube Faces", faces::ALIGNED, 2),
        ("YouTube Faces", faces::WHOLE, 2),
    ] {
        ensure!(
            !full.ancestors().take(deep).any(|at| at.ends_with(part)),
            "{}: a part of {set}, by its name: give the folder above {part}, or rename it",
            dir.display()
        );
    }
    let part = |name: &&String| {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let plain = ["2014", "2015", "2017"].iter().find_map(|year| plain.strip_suffix(year)).unwrap_or(&plain);
        PARTS.split(' ').any(|part| plain.eq_ignore_ascii_case(part))
    };
    if let Some(part) = people.keys().find(part) {
        bail!(
            "{}: a part of a set, by its name, and it holds images that are not of a known layout (bounding_box_train, \
             bbox_train, cam_a, campus, labeled beside testsets.json): give {part}/ID/*.jpg, or rename the folder if it \
             is a person's",
            dir.join(part).display()
        );
    }
    ensure!(
        !people.contains_key("00-1"),
        "{}: MARS's folder of nobody: give the folder above bbox_train and bbox_test, or remove it",
        dir.join("00-1").display()
    );
    Ok(())
}

/// The images of the people in `train`, of which a test alone needs none, and in `test`, whose folders are called as `ID` says.
fn sides(dir: &Path, id: &str, passed: &mut Passed) -> Result<(Identities, Identities)> {
    let mut side = |name: &str| {
        let folder = dir.join(name);
        let found = identities(&folder, &[], passed)?;
        let enough = !found.is_empty() || name == "train";
        ensure!(enough, "no images under {}: expected {name}/{id}/*.jpg", folder.display());
        no_part(&folder, &found).map(|()| found)
    };
    Ok((side("train")?, side("test")?))
}

/// What folders a set has beside its own, and how many images in them; and the names there that are not UTF-8.
fn beside(dir: &Path, own: &[&str]) -> Result<Vec<String>> {
    // As many are counted: a folder beside may be a whole disk.
    const MOST: usize = 10_000;
    let mut passed = Passed::default();
    let others = named(dir, &mut passed)?.into_iter().filter(|entry| entry.folder && !own.contains(&&*entry.name));
    let others: Vec<String> = others
        .map(|entry| match held(&entry.path(), MOST) {
            0 => entry.name.to_string(),
            images if images > MOST => format!("{} (more than {} images)", entry.name, thousands(MOST)),
            images => format!("{} ({})", entry.name, count(images, "image")),
        })
        .collect();
    let own = own.iter().take(2).copied().collect::<Vec<_>>().join(" and ");
    let folders = (!others.is_empty()).then(|| format!("passed over beside {own}: {}", others.join(", ")));
    Ok(folders.into_iter().chain(passed.unnamed().note()).collect())
}

/// Which images of a set's `folders` no list names, by their paths in the set, and what else is passed over there.
fn unlisted(dir: &Path, folders: &[&str], listed: impl Fn(&str) -> bool) -> Vec<String> {
    let (mut passed, mut notes) = (Passed::default(), Vec::new());
    // Where there is no such folder, what the lists name is missed.
    for folder in folders.iter().filter(|folder| dir.join(folder).is_dir()) {
        let all = match images(&dir.join(folder), &mut passed) {
            Ok(all) => all,
            Err(error) => {
                notes.push(format!("{error:#}: what no list names in {folder} is not known"));
                continue;
            }
        };
        let mut odd = all.iter().filter(|image| !listed(&format!("{folder}/{}", image.name)));
        if let Some(first) = odd.next() {
            notes.push(format!("no list names {} in {folder}: {}", count(1 + odd.count(), "image"), first.name));
        }
    }
    notes.extend(passed.note());
    notes
}

/// Why a folder is not read as one folder an identity, and what was perhaps meant: a folder that `is` another layout's.
/// `layouts` names these.
fn nothing(dir: &Path, is: impl Fn(&Path) -> bool, layouts: &str) -> anyhow::Error {
    let shown = dir.display();
    let sides = SIDES.map(|side| dir.join(side).is_dir());
    if sides[0] != sides[1] {
        let (here, gone) = if sides[0] { ("train", "test") } else { ("test", "train") };
        return anyhow!(
            "{shown} has the folder {here} but not {gone}: add {gone}/ID/*.jpg, or give {shown}/{here} to split it"
        );
    }
    let half = |at: &Path| SIDES.iter().any(|side| at.join(side).is_dir());
    let below = |at: &Path| is(at) || half(at) || is_tree(at) && no_part::<()>(at, &BTreeMap::new()).is_ok();
    if let Some(give) = near(dir, below, &is) {
        return anyhow!("{shown} is no set: {give}");
    }
    let all = list(dir, &mut Passed::default()).unwrap_or_default();
    if all.iter().any(|entry| entry.name.ends_with(".rec")) {
        return anyhow!("{shown} holds record files: scripts/convert recordio {shown} NEW-FOLDER makes photos of them");
    }
    let expected = format!("expected {layouts}one folder an identity ({shown}/ID/*.jpg)");
    match all.iter().filter(|entry| Entry::is_image(entry)).count() {
        0 => anyhow!("no images under {shown}: {expected}"),
        1 => anyhow!("{shown}: one image lies in it and none in folders: {expected}"),
        count => anyhow!("{shown}: {} images lie in it and none in folders: {expected}", thousands(count)),
    }
}

/// What a set in `dir` is called: as its folder is, wherever a link or `.` led to it.
fn called(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    Some(files::name(&full)).filter(|name| !name.is_empty()).unwrap_or_else(|| full.display().to_string())
}

/// The images of `folder`, each called by its name behind `before`, with the person and camera that `parse` reads in it.
///
/// # Errors
/// Where something else lies there: a name should be `kind`, as "a VIPeR name (PPP_ANGLE.bmp, as 000_45.bmp)".
fn by_names(
    folder: &Path,
    before: &str,
    kind: &str,
    parse: impl Fn(&str) -> Option<(i64, i64)>,
    passed: &mut Passed,
) -> Result<Vec<Photo>> {
    let photo = |entry: &Entry| {
        let parsed = parse(&entry.name).filter(|_| entry.is_image());
        let (person, camera) =
            parsed.with_context(|| format!("{}: not {kind}: rename or remove it", entry.path().display()))?;
        let name = if before.is_empty() { entry.name.clone() } else { [before, &entry.name].concat().into() };
        Ok(Photo::new(entry.into(), name, person, camera))
    };
    list(folder, passed)?.iter().map(photo).collect()
}

/// Whether the names of a folder's files are those of a layout: of one at least, or it has no files.
fn agrees(dir: &Path, fits: impl Fn(&str) -> bool) -> bool {
    let files = list(dir, &mut Passed::default()).unwrap_or_default();
    let mut files = files.iter().filter(|entry| !entry.folder).peekable();
    files.peek().is_none() || files.any(|entry| fits(&entry.name))
}

/// The persons above 0, in order.
pub(crate) fn persons<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> BTreeSet<i64> {
    photos.into_iter().map(|photo| photo.person).filter(|&person| person > 0).collect()
}

/// [`compare`] with the published counts of the set that the catalog knows as `listed`: what each is of, its key there, and
/// how many are here.
fn compare_listed(name: &str, listed: &str, counts: &[(&'static str, &str, usize)]) -> Option<String> {
    let counts = counts.iter().map(|&(what, key, here)| Count { what, published: catalog::count(listed, key), here });
    compare(name, &counts.collect::<Vec<_>>())
}

/// What the published set counts, and this one.
struct Count {
    what: &'static str,
    published: usize,
    here: usize,
}

/// The counts that differ, in words, or nothing; two that are each other's say what happened.
fn compare(name: &str, counts: &[Count]) -> Option<String> {
    let swapped = |a: &Count, b: &Count| (a.here, b.here) == (b.published, a.published) && a.here != b.here;
    if let Some((a, b)) = counts.iter().find_map(|a| Some((a, counts.iter().find(|b| swapped(a, b))?))) {
        let (a, b, here, there) = (a.what, b.what, thousands(a.here), thousands(b.here));
        return Some(format!("not the published {name}: {here} {a} and {there} {b}, which are in each other's place"));
    }
    let off = counts.iter().filter(|count| count.here != count.published);
    let off: Vec<String> = off
        .map(|count| format!("{} {} (published {})", thousands(count.here), count.what, thousands(count.published)))
        .collect();
    (!off.is_empty()).then(|| format!("not the published {name}: {}", off.join(", ")))
}
