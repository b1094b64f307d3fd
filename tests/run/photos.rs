//! The photos that a run was begun with.

use std::path::Path;

use rankle::hyper;
use rankle::run::config::Config;
use rankle::run::photos::{Photos, Read};
use serde_json::{Value, json};

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
