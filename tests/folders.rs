//! Folders as people keep them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rankle::folders::{Entry, Passed, held, identities, images, list, near};
use rankle::{lists, once};

use crate::common::put;

fn touch(dir: &Path, names: &[&str]) {
    names.iter().for_each(|name| put(dir.join(name), "x"));
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.name).collect()
}

#[test]
fn a_folder_is_walked_once_whatever_links_lead_to_it() {
    let place = tempfile::tempdir().expect("a folder");
    let (photos, outside) = (place.path().join("photos"), place.path().join("outside"));
    touch(&photos, &["b/1.jpg", "b/deep/2.PNG", "3.jpg"]);
    touch(&outside, &["4.jpg"]);
    symlink(".", photos.join("all")).expect("linked");
    symlink("..", photos.join("b/up")).expect("linked");
    symlink("../..", photos.join("b/top")).expect("linked");
    // By its name before the folder that it leads to.
    symlink("b", photos.join("a")).expect("linked");
    symlink(&outside, photos.join("x")).expect("linked");
    symlink(&outside, photos.join("y")).expect("linked");
    symlink(photos.join("3.jpg"), photos.join("latest.jpg")).expect("linked");
    let mut passed = Passed::default();
    let found = images(&photos, &mut passed).expect("walked");
    assert_eq!(names(&found), ["3.jpg", "b/1.jpg", "b/deep/2.PNG", "latest.jpg", "x/4.jpg"]);
    assert_eq!(
        passed.note().unwrap(),
        "passed over 4 links to folders that are walked anyway (a, all, b/up), 1 link to a folder above, which is not \
         walked (b/top)"
    );

    let mut passed = Passed::default();
    let people = identities(&photos, &[], &mut passed).expect("walked");
    assert_eq!(people.keys().collect::<Vec<_>>(), ["b", "x"]);
    let note = passed.note().unwrap();
    assert!(note.starts_with("passed over 2 images beside the folders (3.jpg, latest.jpg), "), "{note}");
    assert!(note.contains("1 image nested too deep (") && note.contains("/b/deep), "), "{note}");
    assert!(note.contains("2 folders inside folders of images (top, up), 3 links to "), "{note}");
}

#[test]
fn what_is_passed_over_is_counted_by_kind() {
    let place = tempfile::tempdir().expect("a folder");
    touch(
        place.path(),
        &["a/1.JPG", "a/1.HEIC", "a/2.heic", "a/2.NEF", "a/1.AAE", "a/1.mov", "a/._1.JPG", "a/Thumbs.db"],
    );
    touch(
        place.path(),
        &["a/@eaDir/1.jpg", ".DS_Store", ".cache/1.jpg", "a/.1.jpg", "a/notes.odt", "b/1.avif", "a/raw"],
    );
    // Our own is not counted, also that of embed.
    touch(
        place.path(),
        &["a/x.csv", "a/x.json", "a/x.csv.kept/0123/1.safetensors", "x.npz", "x.npz.kept/0123/1.safetensors"],
    );
    touch(place.path(), &[".lock", "faces.jsonl", "links.json", "a/.rankle-writing-x"]);
    let kinds =
        "passed over 4 photos that are not decoded here: convert them to JPEG (.avif, .heic, .nef), 1 film (.mov), ";
    let (left, hidden) =
        ("4 leftovers of file managers (", ", 1 hidden file (.1.jpg), 1 hidden folder (.cache), 2 other files (");
    for walk in [
        (|dir, passed| images(dir, passed).map(|found| found.len())) as fn(&Path, &mut Passed) -> anyhow::Result<usize>,
        |dir, passed| identities(dir, &[], passed).map(|found| found.len()),
    ] {
        let mut passed = Passed::default();
        assert_eq!(walk(place.path(), &mut passed).expect("walked"), 1);
        let note = passed.note().unwrap();
        assert!(note.starts_with(kinds) && note.contains("1 sidecar or text (.aae)"), "{note}");
        assert!(note.contains(left) && note.contains(hidden), "{note}");
    }
    assert!(Passed::default().note().is_none());
}

#[test]
fn a_folder_s_name_is_one_however_accents_are_written() {
    let place = tempfile::tempdir().expect("a folder");
    touch(place.path(), &["Jose\u{301}/1.jpg", "Josf/1.jpg"]);
    let found = identities(place.path(), &[], &mut Passed::default()).expect("walked");
    assert_eq!(found["Jose\u{301}"], ["Jose\u{301}/1.jpg".into()]);
    assert!(found.keys().eq(["Jose\u{301}", "Josf"]), "in the order of the names as they are: {found:?}");
    touch(place.path(), &["Jos\u{e9}/2.jpg"]);
    let error = identities(place.path(), &[], &mut Passed::default()).expect_err("refused").to_string();
    assert!(error.contains("accents composed and apart: make them one"), "{error}");
}

#[test]
fn names_that_are_not_utf_8_are_counted_among_photos_and_refused_elsewhere() {
    use std::os::unix::ffi::OsStrExt;
    let place = tempfile::tempdir().expect("a folder");
    touch(place.path(), &["ann/1.jpg"]);
    for odd in [&b"Jos\xe9"[..], b"ann/\xe9.jpg"] {
        std::fs::create_dir(place.path().join(std::ffi::OsStr::from_bytes(odd))).expect("made");
    }
    let mut passed = Passed::default();
    assert_eq!(names(&images(place.path(), &mut passed).expect("walked")), ["ann/1.jpg"]);
    let mut again = Passed::default();
    assert_eq!(identities(place.path(), &[], &mut again).expect("walked").len(), 1);
    for note in [passed.note().unwrap(), again.note().unwrap()] {
        assert!(note.starts_with("passed over 2 names that are not UTF-8: rename them ("), "{note}");
        assert!(note.contains("/Jos\u{fffd}"), "{note}");
    }
    let error = list(place.path(), &mut Passed::default()).expect_err("refused").to_string();
    assert!(error.ends_with("/Jos\u{fffd}: a name that is not UTF-8: rename it"), "{error}");
}

#[test]
fn images_beside_are_counted_no_further_than_needed() {
    let place = tempfile::tempdir().expect("a folder");
    touch(
        place.path(),
        &["a/1.jpg", "a/x/2.PNG", "a/x/3.jpg", "a/x/._3.jpg", "a/.x/4.jpg", "b/5.jpg", "a/x/notes.txt"],
    );
    std::os::unix::fs::symlink(place.path(), place.path().join("a/round")).expect("linked");
    assert_eq!([0, 1, 3, 9].map(|most| held(&place.path().join("a"), most)), [1, 2, 3, 3]);
}

#[test]
fn images_nested_too_deep_are_counted() {
    let place = tempfile::tempdir().expect("a folder");
    touch(place.path(), &["a/1.jpg", "a/x/2.jpg", "a/x/y/3.jpg", "a/x/notes.txt", "b/x/4.jpg", "c/x/y", "d/e.txt"]);
    let mut passed = Passed::default();
    let found = identities(place.path(), &[], &mut passed).expect("walked");
    assert!(found.keys().eq(["a"]), "{found:?}");
    let note = passed.note().unwrap();
    assert!(note.starts_with("passed over 3 images nested too deep ("), "{note}");
    assert!(note.contains("/a/x, ") && note.contains("/b/x), 1 folder inside a folder of images (x)"), "{note}");
    assert!(note.contains("2 folders without images (c, d)"), "{note}");
}

#[test]
fn every_folder_that_may_be_meant_is_offered() {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path();
    let is = |at: &Path| at.join("set").is_dir();
    for (made, wanted) in [
        ("deep/b/set/1.jpg", "give DIR/deep/b, which looks like a set"),
        ("deep/a/set/1.jpg", "give DIR/deep/a or DIR/deep/b: each looks like a set"),
        ("one/set/1.jpg", "give DIR/one, which looks like a set"),
        ("two/set/1.jpg", "give DIR/one or DIR/two: each looks like a set"),
        ("six/set/1.jpg", "give one of 3 folders, DIR/one to DIR/two: each looks like a set"),
    ] {
        touch(dir, &[made]);
        let said = near(dir, is, |_| false).expect(made);
        assert_eq!(said.replace(&dir.display().to_string(), "DIR"), wanted);
    }
    let said = near(&dir.join("deep/a/set"), is, is).expect("above");
    assert!(said.ends_with("/deep/a, which looks like a set"), "{said}");
}

/// What one process read of folders and lists, another sees where nothing is any more; what was not read it reads itself.
#[test]
fn folders_and_lists_are_read_once() {
    let place = tempfile::tempdir().expect("a folder");
    let (photos, list) = (place.path().join("photos"), place.path().join("list.txt"));
    touch(&photos, &["b/1.jpg", "ä.jpg", "notes.txt"]);
    symlink("b", photos.join("a")).expect("linked");
    fs::write(&list, "one\ntwo\n").expect("written");
    let walk = || {
        let mut passed = Passed::default();
        let found = images(&photos, &mut passed).map(|found| names(&found).join(" "));
        let lines = lists::lines(&list).map_err(|error| error.to_string());
        (found.map_err(|error| error.to_string()), passed.note(), lines)
    };
    let (seen, read) = once::kept(walk);
    assert!(seen.0.is_ok() && seen.1.is_some() && seen.2.is_ok(), "{seen:?}");
    assert_eq!(once::told(read.clone(), walk), seen);
    fs::remove_dir_all(photos.join("b")).expect("removed");
    fs::remove_file(&list).expect("removed");
    touch(&photos, &["new.jpg"]);
    touch(place.path(), &["other/5.jpg"]);
    once::told(read, || {
        assert_eq!(walk().2, seen.2);
        assert!(once::is_file(&photos.join("b/1.jpg")) && !once::exists(&photos.join("new.jpg")));
        assert_eq!(names(&images(&place.path().join("other"), &mut Passed::default()).expect("walked")), ["5.jpg"]);
    });
    assert!(!once::exists(&photos.join("b/1.jpg")) && once::exists(&photos.join("new.jpg")) && walk().2.is_err());
}
