//! The photos that a run was begun with.

use std::path::Path;

use rankle::hyper;
use rankle::run::config::Config;
use rankle::run::photos::{Files, Photos, Read, Reads, twice};
use serde_json::{Value, json};

use crate::common::put;

/// The configuration of a run in `at`, as one that has no list yet, or an older version wrote it, has it.
fn begun(at: &Path) {
    let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), Value::Null, "cpu").expect("a configuration");
    std::fs::write(at.join("config.json"), serde_json::to_string(&config).expect("JSON")).expect("written");
}

#[test]
fn a_run_knows_its_training_photos_by_name_and_size() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    begun(dir.path());
    let write = |name: &str, bytes: usize| std::fs::write(dir.path().join(name), vec![7; bytes]).expect("written");
    // Names as people have them: a quote, a comma, a line's end.
    let names = ["a,b.png", "b\"c.png", "c\nd.png", "d.png"];
    names.iter().for_each(|name| write(name, 10));
    let read = |name: &&str, known: &str| Read {
        name: (*name).into(),
        path: Some(dir.path().join(name)),
        known: known.into(),
    };
    let photos = |names: &[&str], known: &str| Photos::of(names.iter().map(|name| read(name, known)));
    let compared = |names: &[&str]| {
        let photos = photos(names, "cat");
        photos
            .compare(dir.path(), false)
            .map(|_| photos.write(dir.path()).expect("written"))
            .map_err(|e| format!("{e:#}"))
    };
    assert!(compared(&names).expect_err("no list").contains("photos.csv.gz: restore it"));
    assert!(Photos::of(vec![]).compare(dir.path(), false).is_ok(), "drawn data have none");
    photos(&names, "cat").write(dir.path()).expect("written");
    let error = format!("{:#}", photos(&names, "dog").compare(dir.path(), false).expect_err("other labels"));
    assert!(error.contains("4 of other labels or content (the first a,b.png):"), "{error}");
    assert_eq!(compared(&["d.png", "c\nd.png", "b\"c.png", "a,b.png"]), Ok(()), "in any order");
    // A list of an older version, which says nothing of labels.
    let mut plain = String::new();
    let list = dir.path().join("photos.csv.gz");
    let packed = std::fs::File::open(&list).expect("a list");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut plain).expect("text");
    assert!(plain.starts_with("name,bytes,changed,known\n"));
    let older = plain.replacen(",known\n", "\n", 1).replace(",cat\n", "\n");
    let mut pack = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut pack, older.as_bytes()).expect("packed");
    std::fs::write(&list, pack.finish().expect("packed")).expect("written");
    assert!(compared(&names).expect_err("another list").contains("it is not as this run wrote it"));
    begun(dir.path());
    assert!(compared(&names[1..]).expect_err("one is gone").contains("1 removed (a,b.png)"));
    assert_eq!(compared(&names), Ok(()), "an older list");
    assert!(photos(&names, "dog").compare(dir.path(), false).is_err(), "a newer one again");
    // Folders that changed places bring their files' times along; a copy has times of its own, all of them.
    let touch = |name: &str, seconds: u64| {
        let file = std::fs::File::options().write(true).open(dir.path().join(name)).expect("opened");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("set");
    };
    let touched = |name: &str| touch(name, 9);
    ["a,b.png", "d.png"].into_iter().for_each(touched);
    let error = compared(&names).expect_err("changed places");
    assert!(error.contains("2 of another time of change (the first a,b.png)"), "{error}");
    names.into_iter().for_each(touched);
    assert_eq!(compared(&names), Ok(()), "a copy");
    write("e.png", 3);
    write("d.png", 11);
    let cases: [(&[&str], &str); 4] = [
        (&["a,b.png", "b\"c.png", "c\nd.png"], "1 removed (d.png):"),
        (&["a,b.png", "b\"c.png", "c\nd.png", "d.png"], "1 of another size (d.png):"),
        (&["a,b.png", "d.png", "e.png"], "1 added (e.png), 2 removed (the first b\"c.png), 1 of another size (d.png):"),
        (&["b\"c.png", "c\nd.png", "gone.png"], "1 added (gone.png), 2 removed (the first a,b.png):"),
    ];
    for (names, words) in cases {
        let error = compared(names).expect_err(words);
        assert!(error.contains(words) && error.contains("--data-changed"), "{error}");
    }
    let changed = photos(&["a,b.png", "b\"c.png", "c\nd.png"], "cat").compare(dir.path(), true).expect("it may");
    assert_eq!(changed.as_deref(), Some("1 removed (d.png)"));
    // What is gone at the end of a training was not replaced.
    assert_eq!(photos(&names, "cat").replaced(dir.path()).as_deref(), Some("1 of another size (d.png)"));
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
        let rows = vec![read(&"a,b.png", ""), Read::hashed("row 1", content), Read::hashed("row 2", b"")];
        Photos::of(rows)
    };
    with_rows(b"1 2").write(dir.path()).expect("written");
    touch("a,b.png", 10);
    with_rows(b"1 2").compare(dir.path(), false).expect("a copy");
    let error = format!("{:#}", with_rows(b"1 3").compare(dir.path(), false).expect_err("edited"));
    assert!(error.contains(": 1 of other labels or content (row 1):"), "{error}");
}

/// That of another run, or of the same one before its photos changed, is not taken, nor is none at all; a kill while it is
/// replaced leaves one that is.
#[test]
fn a_list_of_photos_is_its_runs_alone() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let photos = |names: &[&str]| Photos::of(names.iter().map(|name| Read::hashed(*name, b"")));
    let list = |of: &tempfile::TempDir| of.path().join("photos.csv.gz");
    for of in [&one, &other] {
        begun(of.path());
    }
    let (whole, less) = (photos(&["a", "b"]), photos(&["a"]));
    less.write(other.path()).expect("written");
    whole.write(one.path()).expect("written");
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
    less.write(one.path()).expect("written");
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
        let read = |(name, known): &(&str, &str)| Read { name: (*name).into(), path: None, known: (*known).into() };
        Photos::of(rows.iter().map(read).collect::<Vec<_>>())
    };
    let rows = [("a/0", "0 1"), ("a/1", "0 1"), ("b/0", "1 1"), ("b/1", "1 1"), ("c/0", "2 1"), ("c/1", "2 2")];
    photos(&rows).write(dir.path()).expect("written");
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

/// Moved, copied, in a folder of another name; what has a name and a size in common by chance is another.
#[test]
fn photos_that_a_run_was_trained_on_are_known_wherever_they_lie() {
    let dir = tempfile::tempdir().expect("a folder");
    begun(dir.path());
    let write = |name: &str, bytes: u64, of: u8, seconds: u64| {
        let path = dir.path().join(name);
        put(path.clone(), vec![of; bytes as usize]);
        let file = std::fs::File::options().write(true).open(path).expect("opened");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("set");
    };
    let reads = |names: &[String]| -> Vec<Read> {
        let read =
            |name: &String| Read { name: name.as_str().into(), path: Some(dir.path().join(name)), known: "".into() };
        names.iter().map(read).collect()
    };
    // Three people with four photos each, and nine photos whose names are nobody else's.
    let people: Vec<(u64, u64)> = (0..3).flat_map(|person| (0..4).map(move |shot| (person, shot))).collect();
    let of = |folder: &str, person: u64| -> Vec<String> {
        (0..4).map(|shot| format!("{folder}/{person}/{shot}.jpg")).collect()
    };
    let unique = |folder: &str| -> Vec<String> { (0..9).map(|i| format!("{folder}/u{i}.jpg")).collect() };
    let put_people = |folder: &str, content: u8, seconds: u64| {
        people.iter().for_each(|&(person, shot)| {
            let at = 4 * person + shot;
            write(&format!("{folder}/{person}/{shot}.jpg"), 10 + at, content + person as u8, seconds + at);
        });
    };
    put_people("train", 0, 100);
    let put_unique = |folder: &str, seconds: u64| {
        unique(folder).iter().zip(0..).for_each(|(name, i)| write(name, 200 + i, 7, seconds + i));
    };
    put_unique("box", 200);
    let all = [of("train", 0), of("train", 1), of("train", 2), unique("box")].concat();
    Photos::of(reads(&all)).write(dir.path()).expect("written");
    let files = |without: &str| -> Files {
        let kept = reads(&all).into_iter().filter(|read| without.is_empty() || !read.name.starts_with(without));
        kept.map(|read| (read.name, read.path.expect("a file"))).collect()
    };
    let seen = |names: &[String], own: bool, now: Files| Photos::seen(dir.path(), reads(names), own, || now);
    put_people("test", 0, 1000);
    put_people("other", 50, 2000);
    put_unique("query", 3000);
    (0..4).for_each(|shot| {
        // As train/2 is, in another folder; and train/1, moved into one.
        write(&format!("copied/8/{shot}.jpg"), 18 + shot, 2, 4000 + shot);
        write(&format!("test/9/{shot}.jpg"), 14 + shot, 1, 104 + shot);
        // One of four is there too.
        write(&format!("twin/8/{shot}.jpg"), 18 + shot, if shot == 0 { 2 } else { 60 }, 6000 + shot);
        // One of four has a size in common.
        write(&format!("chance/1/{shot}.jpg"), if shot == 0 { 14 } else { 99 }, 3, 5000 + shot);
    });
    let people_of = |folder: &str| [of(folder, 0), of(folder, 1), of(folder, 2)].concat();
    let gone = "train/1/";
    for (what, names, own, now, count) in [
        ("moved by a copy", of("test", 1), true, files(gone), 4),
        ("in both parts", of("test", 1), true, files(""), 0),
        ("moved and renamed", of("test", 9), true, files(gone), 4),
        ("of one name", of("train", 1), true, files(gone), 4),
        ("one size of four", of("chance", 1), true, files(gone), 0),
        ("copied and renamed", of("copied", 8), false, files(""), 4),
        ("one of a copy", of("twin", 8), false, files(""), 0),
        ("the same, and nothing to compare with", of("copied", 8), false, Files::new(), 0),
        ("other bytes", people_of("other"), false, files(""), 0),
        ("so many sizes", people_of("other"), false, Files::new(), 12),
        ("too few sizes", of("other", 1), false, Files::new(), 0),
        ("in another part", unique("query"), false, Files::new(), 9),
    ] {
        assert_eq!(seen(&names, own, now), count, "{what}");
    }
}

#[test]
fn photos_that_a_set_has_twice_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let reads = |rows: &[(&str, &str, u8)]| -> Reads<'static> {
        let read = |&(name, known, of): &(&str, &str, u8)| {
            let path = dir.path().join(name);
            put(path.clone(), [of; 10]);
            Read { name: name.into(), path: Some(path), known: known.into() }
        };
        Box::new(rows.iter().map(read).collect::<Vec<_>>().into_iter())
    };
    let train = || reads(&[("train/a/0.png", "0 1", 1), ("train/b/0.png", "1 1", 2), ("train/b/1.png", "1 1", 1)]);
    let test = || reads(&[("test/c/0.png", "0 1", 2), ("test/c/1.png", "0 2", 3), ("test/c/2.png", "0 1", 3)]);
    let both = "1 of 3 test photos are photos of the training under other names, byte for byte (the first test/c/0.png, which is train/b/0.png): a score measures memory";
    assert_eq!(twice(train(), test(), false), [both]);
    let people = "1 photo is another's byte for byte, of another person or with other labels (the first train/b/1.png, which is train/a/0.png)";
    assert_eq!(twice(train(), test(), true), [both, people]);
    assert!(twice(train(), train(), false).is_empty(), "what trains and tests is said elsewhere");
}
