//! The photos that a run was begun with.

use std::path::Path;

use rankle::hyper;
use rankle::run::config::Config;
use rankle::run::photos::{Hashed, Of, Photos, Read, Reads, Tested, hashed, twice, two_people};
use serde_json::{Value, json};

use crate::common::put;

/// The configuration of a run in `at`, as one that has no list yet, or an older version wrote it, has it.
fn begun(at: &Path) {
    let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), Value::Null, "cpu").expect("a configuration");
    std::fs::write(at.join("config.json"), serde_json::to_string(&config).expect("JSON")).expect("written");
}

#[test]
fn a_run_knows_its_training_photos() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    begun(dir.path());
    let write = |name: &str, bytes: usize| std::fs::write(dir.path().join(name), vec![7; bytes]).expect("written");
    // Names as people have them: a quote, a comma, a line's end.
    let names = ["a,b.png", "b\"c.png", "c\nd.png", "d.png"];
    names.iter().for_each(|name| write(name, 10));
    let read = |name: &&str, known: &str| Read {
        name: (*name).into(),
        of: Of::File(dir.path().join(name)),
        known: known.into(),
    };
    let photos =
        |names: &[&str], known: &str| Photos::of(names.iter().map(|name| read(name, known)), dir.path(), &|| ());
    let compared = |names: &[&str]| {
        let photos = photos(names, "cat");
        photos
            .compare(dir.path(), false)
            .map(|_| photos.write(dir.path(), true).expect("written"))
            .map_err(|e| format!("{e:#}"))
    };
    assert!(compared(&names).expect_err("no list").contains("photos.csv.gz: restore it"));
    assert!(Photos::of(vec![], dir.path(), &|| ()).compare(dir.path(), false).is_ok(), "drawn data have none");
    photos(&names, "cat").write(dir.path(), true).expect("written");
    let error = format!("{:#}", photos(&names, "dog").compare(dir.path(), false).expect_err("other labels"));
    assert!(error.contains("4 of other labels or content (the first a,b.png):"), "{error}");
    assert_eq!(compared(&["d.png", "c\nd.png", "b\"c.png", "a,b.png"]), Ok(()), "in any order");
    // Lists of older versions, which say nothing of labels, or of bytes.
    let mut plain = String::new();
    let list = dir.path().join("photos.csv.gz");
    let packed = std::fs::File::open(&list).expect("a list");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut plain).expect("text");
    assert!(plain.starts_with("name,bytes,changed,known,hash,former\n"));
    let pack = |columns: usize| {
        let mut writer =
            csv::Writer::from_writer(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for row in csv::ReaderBuilder::new().has_headers(false).from_reader(plain.as_bytes()).records() {
            writer.write_record(row.expect("a row").iter().take(columns)).expect("written");
        }
        let packed = writer.into_inner().map_err(|error| error.into_error()).expect("text").finish().expect("packed");
        std::fs::write(&list, packed).expect("written");
    };
    pack(3);
    assert!(compared(&names).expect_err("another list").contains("it is not as this run wrote it"));
    begun(dir.path());
    assert!(compared(&names[1..]).expect_err("one is gone").contains("1 removed (a,b.png)"));
    assert_eq!(compared(&names), Ok(()), "an older list");
    assert!(photos(&names, "dog").compare(dir.path(), false).is_err(), "a newer one again");
    begun(dir.path());
    pack(4);
    assert!(photos(&names, "dog").compare(dir.path(), false).is_err(), "it knows labels");
    assert_eq!(compared(&names), Ok(()), "and no bytes");
    // Files that are touched, copied or moved away and back are the same; others of one size are not, whatever their times.
    let touch = |name: &str, seconds: u64| {
        let file = std::fs::File::options().write(true).open(dir.path().join(name)).expect("opened");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("set");
    };
    ["a,b.png", "d.png"].into_iter().for_each(|name| touch(name, 9));
    assert_eq!(compared(&names), Ok(()), "touched");
    std::fs::write(dir.path().join("d.png"), [8; 10]).expect("replaced");
    touch("d.png", 9);
    let error = compared(&names).expect_err("replaced");
    assert!(error.contains("1 of other bytes (d.png)"), "{error}");
    write("d.png", 10);
    assert_eq!(compared(&names), Ok(()), "put back");
    write("e.png", 3);
    write("d.png", 11);
    let cases: [(&[&str], &str); 4] = [
        (&["a,b.png", "b\"c.png", "c\nd.png"], "1 removed (d.png):"),
        (&["a,b.png", "b\"c.png", "c\nd.png", "d.png"], "1 of other bytes (d.png):"),
        (&["a,b.png", "d.png", "e.png"], "1 added (e.png), 2 removed (the first b\"c.png), 1 of other bytes (d.png):"),
        (&["b\"c.png", "c\nd.png", "gone.png"], "1 added (gone.png), 2 removed (the first a,b.png):"),
    ];
    for (names, words) in cases {
        let error = compared(names).expect_err(words);
        assert!(error.contains(words) && error.contains("--data-changed"), "{error}");
    }
    let changed = photos(&["a,b.png", "b\"c.png", "c\nd.png"], "cat").compare(dir.path(), true).expect("it may");
    assert_eq!(changed.as_deref(), Some("1 removed (d.png)"));
    // What is gone at the end of a training was not replaced.
    assert_eq!(photos(&names, "cat").replaced(dir.path()).as_deref(), Some("1 of other bytes (d.png)"));
    std::fs::remove_file(dir.path().join("d.png")).expect("removed");
    assert_eq!(photos(&names, "cat").replaced(dir.path()), None);
    assert!(compared(&names).expect_err("gone").contains(": 1 removed (d.png):"));
    begun(dir.path());
    let whole = std::fs::read(&list).expect("a list");
    std::fs::write(&list, &whole[..whole.len() / 2]).expect("written");
    let error = compared(&names).expect_err("damaged");
    assert!(error.contains("photos.csv.gz: restore it"), "{error}");
    let unknown = photos(&names, "cat").compare(dir.path(), true).expect("it may").expect("unknown");
    assert!(unknown.contains("photos.csv.gz"), "{unknown}");
    // Of what is no file the content decides, and its lack of a time says nothing of the photos'.
    let with_rows = |content: &[u8]| {
        let rows = vec![read(&"a,b.png", ""), Read::hashed("row 1", content), Read::row("row 2", content, "")];
        Photos::of(rows, dir.path(), &|| ())
    };
    with_rows(b"1 2").write(dir.path(), true).expect("written");
    touch("a,b.png", 10);
    with_rows(b"1 2").compare(dir.path(), false).expect("a copy");
    let error = format!("{:#}", with_rows(b"1 3").compare(dir.path(), false).expect_err("edited"));
    assert!(error.contains(": 1 of other bytes (row 2), 1 of other labels or content (row 1):"), "{error}");
}

/// That of another run, or of the same one before its photos changed, is not taken, nor is none at all; a kill while it is
/// replaced leaves one that is.
#[test]
fn a_list_of_photos_is_its_runs_alone() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let photos = |names: &[&str]| Photos::of(names.iter().map(|name| Read::hashed(*name, b"")), Path::new(""), &|| ());
    let list = |of: &tempfile::TempDir| of.path().join("photos.csv.gz");
    for of in [&one, &other] {
        begun(of.path());
    }
    let (whole, less) = (photos(&["a", "b"]), photos(&["a"]));
    less.write(other.path(), true).expect("written");
    whole.write(one.path(), true).expect("written");
    let good = std::fs::read(list(&one)).expect("a list");
    let refused = |photos: &Photos| {
        let error = format!("{:#}", photos.compare(one.path(), false).expect_err("another's"));
        assert!(error.contains("photos.csv.gz: restore it") && error.contains("--data-changed"), "{error}");
        assert!(photos.compare(one.path(), true).expect("it may").is_some());
    };
    std::fs::copy(list(&other), list(&one)).expect("copied");
    refused(&less);
    std::fs::remove_file(list(&one)).expect("removed");
    refused(&whole);
    std::fs::write(list(&one), &good).expect("restored");
    whole.compare(one.path(), false).expect("its own");
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let others = std::fs::read(list(&other)).expect("a list");
    Config::set_photos(one.path(), &[hash(&good), hash(&others)]).expect("written");
    whole.compare(one.path(), false).expect("the one before");
    less.write(one.path(), true).expect("written");
    less.compare(one.path(), false).expect("the new one");
    std::fs::write(list(&one), &good).expect("put back");
    refused(&whole);
}

/// Numbers of people shift with who is before them: who is who does not.
#[test]
fn people_are_told_by_their_photos() {
    let dir = tempfile::tempdir().expect("a folder");
    begun(dir.path());
    let photos = |rows: &[(&str, &str)]| {
        let read = |(name, known): &(&str, &str)| Read { name: (*name).into(), of: Of::List, known: (*known).into() };
        Photos::of(rows.iter().map(read).collect::<Vec<_>>(), dir.path(), &|| ())
    };
    let rows = [("a/0", "0 1"), ("a/1", "0 1"), ("b/0", "1 1"), ("b/1", "1 1"), ("c/0", "2 1"), ("c/1", "2 2")];
    photos(&rows).write(dir.path(), true).expect("written");
    let without = vec![("b/0", "0 1"), ("b/1", "0 1"), ("c/0", "1 1"), ("c/1", "1 2")];
    for (rows, words) in [
        (without, ": 2 removed (the first a/0):"),
        ([&rows[..4], &[("c/0", "1 1"), ("c/1", "2 2")]].concat(), ": 1 of other labels or content (c/0):"),
        ([&rows[..5], &[("c/1", "2 1")]].concat(), ": 1 of other labels or content (c/1):"),
    ] {
        let error = format!("{:#}", photos(&rows).compare(dir.path(), false).expect_err(words));
        assert!(error.contains(words), "{error}");
    }
}

/// Moved, copied, linked, in a folder or a file of another name; what has a name and a size in common is another.
#[test]
fn photos_that_a_run_was_trained_on_are_known_wherever_they_lie() {
    let dir = tempfile::tempdir().expect("a folder");
    begun(dir.path());
    let write = |name: &str, of: u64| put(dir.path().join(name), format!("{of:10}"));
    let read = |name: &String| {
        let of = Of::File(dir.path().join(name));
        Read { name: name.as_str().into(), of, known: "".into() }
    };
    let reads = |names: &[String]| -> Vec<Read> { names.iter().map(read).collect() };
    // Of people with four photos each those of the first so many, of the same size all.
    let of = |folder: &str, count: u64, content: u64| -> Vec<String> {
        let all = (0..count).map(|i| (format!("{folder}/{}/{}.jpg", i / 4, i % 4), content + i));
        all.map(|(name, content)| {
            write(&name, content);
            name
        })
        .collect()
    };
    let train = of("train", 40, 0);
    Photos::of(reads(&train), dir.path(), &|| ()).write(dir.path(), true).expect("written");
    let others = of("others", 40, 100);
    let copied = of("p", 40, 0);
    let link = "links/1.jpg".to_string();
    put(dir.path().join("links/README"), "");
    std::os::unix::fs::symlink(dir.path().join(&train[0]), dir.path().join(&link)).expect("a link");
    let edited = vec![train[0].clone()];
    let many: Vec<String> = (0..9).map(|i| format!("many/{i}/0.jpg")).collect();
    many.iter().for_each(|name| write(name, 0));
    let none: &[String] = &[];
    let seen = |tested: &[String], trains: &[String], own: bool| {
        let tested: Vec<Hashed> = hashed(Box::new(reads(tested).into_iter()), "test photos", &|| ());
        let tested: Vec<&Hashed> = tested.iter().collect();
        let found = Photos::seen(dir.path(), &tested, Box::new(reads(trains).into_iter()), own);
        assert_eq!((found.all, found.what), (tested.len(), "photos"));
        (found.seen, found.notes.join("\n"))
    };
    for (what, tested, trains, own, count, words) in [
        ("others", &others[..], none, false, 0, ""),
        ("others, of its own", &others[..], &train[..], true, 0, ""),
        ("copied and renamed", &copied[..], none, false, 40, ""),
        ("eight of many", &[&copied[..8], &others[..]].concat(), none, false, 8, ""),
        ("half of somebody", &copied[1..3], none, false, 2, ""),
        (
            "by chance",
            &[&copied[3..5], &copied[8..9], &others[..]].concat(),
            none,
            false,
            0,
            "trained on 3 of 43 test photos (p/0/3.jpg is one)",
        ),
        ("a link", std::slice::from_ref(&link), none, false, 0, "trained on 1 of 1 test photo (links/1.jpg is one)"),
        ("a link, of its own", std::slice::from_ref(&link), &train[1..], true, 1, ""),
        ("moved", &copied[..2], &train[2..], true, 2, ""),
        (
            "in both parts",
            &copied[..2],
            &train[..],
            true,
            0,
            "2 of 2 test photos are in the training too, byte for byte (the first p/0/0.jpg, which is train/0/0.jpg)",
        ),
        ("in both parts of a copy", &copied[..1], &copied[..], false, 0, "1 of 1 test photo are in the training too"),
        ("one picture in many places", &many, none, false, 0, "trained on 9 of 9 test photos (many/0/0.jpg is one)"),
        (
            "a twin in what trains on nothing now",
            &[&copied[..1], &others[..]].concat(),
            none,
            true,
            0,
            "trained on 1 of 41 test photos (p/0/0.jpg is one)",
        ),
        ("one of both, one moved", &copied[..2], &train[1..], true, 1, "1 of 2 test photos are in the training too"),
    ] {
        let (found, notes) = seen(tested, trains, own);
        assert!(
            found == count && notes.contains(words) && notes.is_empty() == words.is_empty(),
            "{what}: {found} {notes}"
        );
    }
    write(&train[0], 1000);
    assert_eq!(seen(&edited, &train[1..], true), (1, String::new()), "of one name");
    assert_eq!(seen(&edited, none, false).0, 0, "another's of one name");
    // Rows of numbers.
    let row = |name: &str, content: &[u8]| Read::row(name, content, "");
    Photos::of(vec![row("a:1", b"1 2"), row("a:2", b"3 4")], dir.path(), &|| ())
        .write(dir.path(), true)
        .expect("written");
    let tested = hashed(
        Box::new(vec![row("b:1", b"1 2"), row("b:2", b"5 6"), Read::hashed("pairs", b"")].into_iter()),
        "",
        &|| (),
    );
    let tested: Vec<&Hashed> = tested.iter().collect();
    let found = Photos::seen(dir.path(), &tested, Box::new(std::iter::empty()), true);
    assert_eq!(found, Tested { seen: 1, known: 1, all: 2, what: "rows", notes: vec![] });
    // What was trained on before the data changed stays known, and is none of the data that they are compared with.
    let (one, other) = (row("a:1", b"1 2"), row("a:1", b"7 8"));
    let changed = Photos::of(vec![other.clone()], dir.path(), &|| ());
    changed.write(dir.path(), true).expect("written");
    assert_eq!(changed.compare(dir.path(), false).expect("the same"), None);
    let count = || {
        let tested =
            [(one.clone(), hashed(Box::new(std::iter::once(one.clone())), "", &|| ())[0].1), (other.clone(), None)];
        Photos::seen(dir.path(), &tested.iter().collect::<Vec<_>>(), Box::new(std::iter::empty()), false).known
    };
    assert_eq!(count(), 1);
    changed.write(dir.path(), true).expect("written");
    assert_eq!(count(), 1, "and goes on to");
    changed.write(dir.path(), false).expect("written");
    assert_eq!(count(), 0, "but of a run that began anew");
    // Lists that are others, and what is left out.
    let list = |content: &[u8]| Read::hashed("fold 1", content);
    Photos::of(vec![row("a:1", b"1 2"), list(b"1")], dir.path(), &|| ()).write(dir.path(), false).expect("written");
    let otherwise = |all: Vec<Read>| Photos::otherwise(dir.path(), Box::new(all.into_iter()));
    assert_eq!(otherwise(vec![list(b"1"), row("a:1", b"1 2")]), [None, None]);
    let left = Some("1 (the first a:1)".to_string());
    assert_eq!(otherwise(vec![list(b"2")]), [Some("fold 1".to_string()), left]);
}

#[test]
fn photos_that_a_set_has_twice_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let reads = |rows: &[(&str, &str, u8)]| -> Reads<'static> {
        let read = |&(name, known, of): &(&str, &str, u8)| {
            let path = dir.path().join(name);
            put(path.clone(), [of; 10]);
            Read { name: name.into(), of: Of::File(path), known: known.into() }
        };
        Box::new(rows.iter().map(read).collect::<Vec<_>>().into_iter())
    };
    let train = || reads(&[("train/a/0.png", "0 1", 1), ("train/b/0.png", "1 1", 2), ("train/b/1.png", "1 1", 1)]);
    let test = || reads(&[("test/c/0.png", "0 1", 2), ("test/c/1.png", "0 2", 3), ("test/c/2.png", "0 1", 3)]);
    let both = "1 of 3 test photos are in the training too, byte for byte (the first test/c/0.png, which is train/b/0.png): a score measures memory";
    let people = "1 photo is another's byte for byte, of another person or with other labels (the first train/b/1.png, which is train/a/0.png)";
    assert_eq!(twice(train(), test()), [both, people]);
    assert_eq!(two_people(&hashed(test(), "", &|| ())), None, "of one person");
    assert_eq!(two_people(&hashed(train(), "", &|| ())).as_deref(), Some(people));
    assert_eq!(twice(train(), train()), [people], "what trains and tests is said elsewhere");
}
