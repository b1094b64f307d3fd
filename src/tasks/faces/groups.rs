//! People found among photos (1503.03832, Section 5.8): all of a folder's by clusters, and one by what a few photos show.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::datasets::Photo;
use crate::distance::Metric;
use crate::files;
use crate::metrics::clustering;
use crate::outputs::{PERSON, apart, hold, hold_folder, links_made, links_of, remove_links};
use crate::real::{index, numbers};
use crate::report::{Frame, GalleryRow, Report, Table, Tile};
use crate::run::folder::REPORT;
use crate::say::{self, Bar, line, print, print_lines};
use crate::tasks::Rows;
use crate::tasks::brought::{Asked, Brought, PICTURES, Use, tile, write_folder};
use crate::tasks::kept::full;

/// Squared distance up to which two faces are one person's, where neither a flag nor pairs say it (Figure 1).
pub(super) const CUT: f64 = 1.1;

/// The verb `cluster`: who is who in a folder.
pub const CLUSTER: Use = Use {
    name: "cluster",
    flags: |verb: Command| {
        ClusterFlags::augment_args(verb)
            .about("Who is who in a folder of photos: clusters.json, a page with a strip a person, folders of links")
    },
    scoring: &["variant", "flip", "cluster-cut", "detect", "detector"],
    work: cluster,
};

/// The verb `find`: the photos of one person.
pub const FIND: Use = Use {
    name: "find",
    flags: |verb: Command| FindFlags::augment_args(verb).about("The photos nearest to a person's: found.json, a page"),
    scoring: &["variant", "flip", "cluster-cut", "detect", "detector"],
    work: find,
};

#[derive(Args)]
struct ClusterFlags {
    /// Photos, or folders that are searched with their subfolders
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Folder to write: clusters.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder to write, too: a folder of links to photos for each person of two or more; one that this verb made is made anew
    #[arg(long, value_name = "DIR")]
    link: Option<PathBuf>,
}

#[derive(Args)]
struct FindFlags {
    /// Photos of the person, or folders of such
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    person: Vec<PathBuf>,
    /// Photos to search, or folders that are searched with their subfolders; those of --person are no answers
    #[arg(long, value_name = "DIR|FILE", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// Folder to write: found.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Photos that are printed and shown, the nearest first; found.json has all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = crate::bounds::within(1..=100_000_usize))]
    top: usize,
}

fn cut(of: &ArgMatches) -> f64 {
    of.try_get_one("cluster_cut").ok().flatten().copied().unwrap_or(CUT)
}

/// The rows of embeddings.
fn embeddings(rows: &Rows) -> Result<&Tensor> {
    Ok(&rows.tensors.first().context("no embeddings")?.1)
}

fn cluster(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const FILE: (&str, &str) = ("clusters.json", "clusters");
    const PAGE: (&str, &str) = (REPORT, "People");
    let mut flags = ClusterFlags::from_arg_matches(of)?;
    flags.link = flags.link.map(|link| leads_to(&link));
    let _held = hold_folder(&flags.out, &[FILE, PAGE], &[&flags.images])?;
    let linked = |link: &PathBuf| {
        let same = link.canonicalize().is_ok_and(|link| flags.out.canonicalize().is_ok_and(|out| out == link));
        ensure!(!same, "--link {}: that is the folder --out: name another", link.display());
        links_of(link).context("--link")?;
        files::check(&link.join(PERSON)).context("--link")?;
        apart("link", link, &flags.images)?;
        hold("link", link)
    };
    let _links = flags.link.as_ref().map(linked).transpose()?;
    let rows = (asked.embed)(Brought::photos(&flags.images)?, &[])?;
    let (x, cut, count) = (embeddings(&rows)?, cut(of), rows.photos.len());
    let mut bar = Bar::new("cluster", count as u64, 0);
    let mut people: Vec<Vec<usize>> = Vec::new();
    for (row, person) in clustering::average_linkage(x, cut, || bar.step(1)).into_iter().enumerate() {
        if person == people.len() {
            people.push(Vec::new());
        }
        people[person].push(row);
    }
    drop(bar);
    people.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let several = people.iter().take_while(|rows| rows.len() > 1).count();
    let names = |person: &Vec<usize>| person.iter().map(|&row| &rows.names[row]).collect::<Vec<_>>();
    let value = json!({
        "cut": cut,
        "photos": count,
        "people": people.iter().map(names).collect::<Vec<_>>(),
    });
    let once: Vec<usize> = people[several..].iter().map(|rows| rows[0]).collect();
    let says = format!(
        "{} {} {} seen twice or more and {} seen once (faces joined up to a mean squared distance of {cut}).",
        say::count(count, "photo"),
        say::plural(count, "shows", "show"),
        say::count(several, "person"),
        say::count(once.len(), "person")
    );
    let says = asked.says(&says, &rows);
    print(&says)?;
    let mut report = Report::new(PAGE.1, asked.paper.1);
    report.answers(&says);
    report.counts(&[
        ("photo", "photos", count),
        ("person seen twice or more", "people seen twice or more", several),
        ("person seen once", "people seen once", once.len()),
    ]);
    let strips = strips(&people[..several], &rows.photos, PICTURES - once.len().min(ONCE))?;
    let shown = strips.iter().map(|strip| strip.tiles.len()).sum::<usize>();
    report.gallery(
        "People",
        &format!(
            "A strip a person, the most photos first; {} of {}, {shown} of their photos.",
            strips.len(),
            say::count(several, "person")
        ),
        &strips,
    );
    if !once.is_empty() {
        let tiles = seen_once(&once, &people, x, &rows.photos, PICTURES - shown)?;
        let (shown, all) = (tiles.len(), say::count(once.len(), "person"));
        let summary = format!("{shown} of {all}, each with the nearest other photo and its squared distance.");
        report.folded_gallery("People seen once", &summary, &rows_of(&tiles, "from"));
    }
    write_folder(asked, &flags.out, FILE, (value, None), &rows, report)?;
    flags.link.iter().try_for_each(|link| links(link, &people[..several], &rows.photos))
}

/// The folder that a link to one leads to; anything else as it is named.
fn leads_to(named: &Path) -> PathBuf {
    // A slash at the end has the system follow a link.
    let named: PathBuf = named.components().collect();
    named.canonicalize().ok().filter(|to| named.is_symlink() && to.is_dir()).unwrap_or(named)
}

/// So many pictures of a page are for people seen once, where there are as many.
const ONCE: usize = 40;

/// The first photos of people, as many of each as fit into `room`.
fn strips(people: &[Vec<usize>], photos: &[Photo], room: usize) -> Result<Vec<GalleryRow>> {
    let each = (room / people.len().max(1)).clamp(4, 14);
    let shown = people.iter().enumerate().take(room / each);
    let strip = |(number, rows): (usize, &Vec<usize>)| {
        let tiles = rows.iter().take(each).map(|&row| tile(&photos[row], photos[row].name.to_string(), Frame::Plain));
        let title = format!("person {}: {}", number + 1, say::count(rows.len(), "photo"));
        Ok(GalleryRow { title, tiles: tiles.collect::<Result<_>>()? })
    };
    shown.map(strip).collect()
}

/// Rows of 14 pictures, called by the number of their first.
fn rows_of(tiles: &[Tile], from: &str) -> Vec<GalleryRow> {
    let row =
        |(i, part): (usize, &[Tile])| GalleryRow { title: format!("{from} {}", 14 * i + 1), tiles: part.to_vec() };
    tiles.chunks(14).enumerate().map(row).collect()
}

/// `room` of the photos in the rows `once`, evenly spread, each with whom it is nearest to by embeddings `x` `[N, D]`: where
/// that is near, it may be one of theirs.
fn seen_once(once: &[usize], people: &[Vec<usize>], x: &Tensor, photos: &[Photo], room: usize) -> Result<Vec<Tile>> {
    let count = once.len().min(room);
    let shown: Vec<usize> = (0..count).map(|i| once[i * once.len() / count]).collect();
    let at = index(shown.iter().copied());
    let distances = Metric::SquaredEuclidean.matrix(&x.index_select(0, &at), x);
    let itself = distances.scatter_value(1, &at.unsqueeze(1), f64::INFINITY);
    let (near, others) = itself.to_kind(Kind::Double).min_dim(1, false);
    let tile = |((&row, near), other): ((&usize, f64), i64)| {
        let person = people.iter().position(|rows| rows.contains(&(other as usize)));
        let person = person.filter(|&person| people[person].len() > 1);
        let whom = person.map_or("another seen once".into(), |person| format!("person {}", person + 1));
        let known = if near.is_finite() { format!(" · {whom}, {near:.2}") } else { String::new() };
        tile(&photos[row], format!("{}{known}", photos[row].name), Frame::Plain)
    };
    shown.iter().zip(numbers::<f64>(&near)).zip(numbers::<i64>(&others)).map(tile).collect()
}

/// `person-0001/01-NAME` and so on, links to the photos, with as many digits as a person's last one needs: all of them or none,
/// in place of those that stood there.
fn links(at: &Path, people: &[Vec<usize>], photos: &[Photo]) -> Result<()> {
    files::folder_atomically(at, |draft| {
        let mut made = Vec::new();
        for (number, rows) in people.iter().enumerate() {
            let folder = draft.join(format!("{PERSON}{:04}", number + 1));
            std::fs::create_dir_all(&folder)?;
            let digits = rows.len().to_string().len();
            for (place, &row) in rows.iter().enumerate() {
                let Some(path) = photos[row].source.path() else { continue };
                let number = format!("{:0digits$}", place + 1);
                let name = path.file_name().unwrap_or_default().as_bytes();
                // Of a name that is too long now, its end.
                let mut cut = (name.len() + number.len() + 1).saturating_sub(LONGEST);
                while name.get(cut).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    cut += 1; // whole letters
                }
                let name = [number.as_bytes(), b"-", &name[cut..]].concat();
                let link = folder.join(OsStr::from_bytes(&name));
                std::os::unix::fs::symlink(path.canonicalize()?, &link)?;
                made.push(link.strip_prefix(draft)?.to_owned());
            }
        }
        links_made(draft, &made)?;
        remove_links(at)
    })
    .context("--link")?;
    print(format!("links:   {}", at.display()))
}

/// How many of `photos` are copies of some of `known`: files of the same bytes.
fn copies(known: &[Photo], photos: &[Photo]) -> usize {
    let length = |photo: &Photo| Some(photo.source.path()?.metadata().ok()?.len());
    let hash = |photo: &Photo| files::hash(&photo.source.path()?).ok();
    let lengths: HashSet<u64> = known.iter().filter_map(length).collect();
    let hashes: HashSet<String> = known.iter().filter_map(hash).collect();
    let alike = |photo: &&Photo| length(photo).is_some_and(|length| lengths.contains(&length));
    photos.iter().filter(alike).filter_map(hash).filter(|hash| hashes.contains(hash)).count()
}

/// Bytes that a name may have.
const LONGEST: usize = 255;

fn find(asked: &Asked<'_>, of: &ArgMatches) -> Result<()> {
    const FILE: (&str, &str) = ("found.json", "found");
    const PAGE: (&str, &str) = (REPORT, "Photos of a person");
    let flags = FindFlags::from_arg_matches(of)?;
    let _held = hold_folder(&flags.out, &[FILE, PAGE], &[&flags.images, &flags.person])?;
    let known = Brought::photos(&flags.person)?;
    let own: HashSet<PathBuf> = known.iter().filter_map(full).collect();
    let mut all = Brought::photos(&flags.images)?;
    all.retain(|photo| full(photo).is_none_or(|path| !own.contains(&path)));
    ensure!(!all.is_empty(), "--images: all of its photos are those of --person: name others");
    let (first, sides) = (known.len(), [("person", known.len()), ("images", all.len())]);
    all.splice(0..0, known);
    let rows = (asked.embed)(all, &sides)?;
    // What has no face, or cannot be read, has no row.
    let first = rows.places.iter().filter(|&&place| place < first).count();
    ensure!(first > 0, "--person: none of its photos has a face and can be read: name others");
    ensure!(first < rows.names.len(), "--images: none of its photos has a face and can be read: name others");
    let (x, cut) = (embeddings(&rows)?, cut(of));
    let (known, others) = (x.narrow(0, 0, first as i64), x.narrow(0, first as i64, x.size()[0] - first as i64));
    let mut distances = Vec::new();
    for part in others.split(1024, 0) {
        distances.extend(numbers::<f64>(&Metric::SquaredEuclidean.matrix(&part, &known).mean_dim(
            1,
            false,
            Kind::Double,
        )));
    }
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
    let (name, photo) = (|i: usize| &rows.names[first + i], |i: usize| &rows.photos[first + i]);
    let near = distances.iter().filter(|&&d| d < cut).count();
    let found = |&i: &usize| json!({"photo": name(i), "distance": distances[i], "same": distances[i] < cut});
    let value = json!({
        "person": &rows.names[..first],
        "cut": cut,
        "found": order.iter().map(found).collect::<Vec<_>>(),
    });
    let nearest = &order[..order.len().min(flags.top)];
    let cell = |(rank, &i): (usize, &usize)| {
        let same = if distances[i] < cut { "yes" } else { "no" };
        vec![(rank + 1).to_string(), line(name(i)), format!("{:.3}", distances[i]), same.to_string()]
    };
    let head = ["", "photo", "distance", "same person"];
    let sorted: Vec<f64> = order.iter().map(|&i| distances[i]).collect();
    let gap = clustering::gap(&sorted, cut).map_or(String::new(), |(before, within)| {
        let (from, to, photos) = (sorted[before - 1], sorted[before], say::count(before, "photo"));
        format!(
            " No photo is between {from:.2} and {to:.2}: --cluster-cut {within} takes the {photos} nearer than that alone."
        )
    });
    let copied = match copies(&rows.photos[..first], &rows.photos[first..]) {
        0 => String::new(),
        copied => format!(
            " {} of the photos searched {} of theirs, byte by byte.",
            say::thousands(copied),
            say::plural(copied, "is a copy", "are copies")
        ),
    };
    let says = format!(
        "{near} of {} {} to show the person (mean squared distance below {cut}, which is --cluster-cut, to {} of theirs).{copied}{gap}",
        say::count(order.len(), "photo"),
        say::plural(near, "seems", "seem"),
        say::count(first, "photo")
    );
    let says = asked.says(&says, &rows);
    print(&says)?;
    print_lines(Table::new(head, nearest.iter().enumerate().map(cell)))?;
    let tiles = |of: &mut dyn Iterator<Item = (usize, String, Frame)>| {
        of.map(|(row, caption, frame)| tile(&rows.photos[row], caption, frame)).collect::<Result<Vec<_>>>()
    };
    let person = tiles(&mut (0..first.min(20)).map(|row| (row, rows.names[row].clone(), Frame::None)))?;
    let framed = |(rank, &i): (usize, &usize)| {
        let frame = if distances[i] < cut { Frame::Right } else { Frame::Wrong };
        (first + i, format!("{} · {:.2} · {}", rank + 1, distances[i], photo(i).name), frame)
    };
    let shown = tiles(&mut nearest.iter().enumerate().take(PICTURES - person.len()).map(framed))?;
    let mut gallery = vec![GalleryRow { title: "the person".into(), tiles: person }];
    gallery.extend(rows_of(&shown, "from rank"));
    let mut report = Report::new(PAGE.1, asked.paper.1);
    report.answers(&says);
    report.counts(&[
        ("photo searched", "photos searched", order.len()),
        ("below the cut", "below the cut", near),
        ("photo of the person", "photos of the person", first),
    ]);
    report.gallery("The nearest photos", "Framed green with a tick below the cut, red with a cross above it; the number is the mean squared distance to the person's photos.", &gallery);
    write_folder(asked, &flags.out, FILE, (value, None), &rows, report)
}
