//! What a flag writes replaces nothing but what the same verb made, and spares what is a run's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use rankle::outputs::{
    Listed, MADE_BY, MODULE, Said, beside, check, check_module, check_out, hold_folder, links_made, links_of, made,
    mark, marked, remove_links, write_json, write_list, write_said,
};
use rankle::report::Report;
use rankle::run::checkpoint::{BEFORE, NEWEST};
use rankle::run::config::Config;
use rankle::weights::{save, save_npz, seal_zip};
use serde_json::json;
use tch::Tensor;
use tempfile::tempdir;

use crate::common;

/// A file of every kind as ours, and as another program's that has all that ours has but for the mark.
#[test]
fn what_others_made_is_not_replaced_however_alike() {
    let place = tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    let (x, names) = (vec![("embeddings".to_string(), Tensor::from_slice(&[1_f32]))], ("names", vec!["a".to_string()]));
    let texts = |made: &str| [("names", "[]"), (MADE_BY, made)].map(|(key, text)| (key.into(), text.into())).into();
    let module = |path: &Path| {
        let mut zip = zip::ZipWriter::new(fs::File::create(path).expect("made"));
        zip.start_file("model/extra/model.json", zip::write::SimpleFileOptions::default()).expect("begun");
        zip.finish().expect("ended");
    };
    let png = || common::encoded(&RgbImage::new(2, 2).into(), ImageFormat::Png);
    save(&at("ours.safetensors"), &x, Some(texts(&mark("rows")))).expect("saved");
    save(&at("other.safetensors"), &x, Some(texts("me"))).expect("saved");
    save_npz(&at("ours.npz"), std::slice::from_ref(&names), &x, &mark("rows")).expect("saved");
    save_npz(&at("other.npz"), &[names], &x, "").expect("saved");
    let value = json!({"layout": "", "unreadable": [], "problems": []});
    for (ours, other, value) in [("ours.json", "other.json", value.clone()), ("ours", "other", json!([value]))] {
        write_json(&at(ours), "rows", &value).expect("written");
        fs::write(at(other), value.to_string()).expect("written");
    }
    Report::new("rows", "").write(&at("ours.html")).expect("written");
    Report::new("another title", "").write(&at("other.html")).expect("written");
    fs::write(at("ours.png"), marked(png(), "rows")).expect("written");
    assert!(image::open(at("ours.png")).is_ok());
    fs::write(at("other.png"), png()).expect("written");
    for end in ["safetensors", "npz", "json", "html", "png", ""] {
        let (ours, other) = (at("ours").with_extension(end), at("other").with_extension(end));
        check(&ours, "rows").unwrap_or_else(|error| panic!("{error}"));
        let error = check_out(&other, "rows").expect_err("another's");
        assert!(format!("{error:#}").contains("--out") && format!("{error:#}").contains("name another"), "{error:#}");
        // What another verb made is no more this one's.
        assert!(!made(&ours, "others"), "{}", ours.display());
    }
    // Ours that was edited is its user's.
    for (name, from, to) in
        [("ours.json", "\"\"", "\"mine\""), ("ours", "\"\"", "\"mine\""), ("ours.html", "</main>", "mine</main>")]
    {
        let text = fs::read_to_string(at(name)).expect("read");
        fs::write(at(name), text.replacen(from, to, 1)).expect("edited");
        let error = check(&at(name), "rows").expect_err("edited").to_string();
        assert!(error.contains("that was changed since"), "{error}");
    }
    // A picture's pixels: whoever edits it may keep its texts.
    for (name, from_end) in [("ours.safetensors", 2), ("ours.npz", 2), ("ours.npz", 200), ("ours.png", 20)] {
        let mut bytes = fs::read(at(name)).expect("read");
        let place = bytes.len() - from_end;
        bytes[place] ^= 1;
        fs::write(at(name), bytes).expect("edited");
        assert!(!made(&at(name), "rows"), "{name}");
    }
    module(&at("model.pt"));
    check_module(&at("model.pt")).expect_err("another's");
    let odd = check_module(Path::new(OsStr::from_bytes(b"run\xff/model.pt"))).expect_err("libtorch's").to_string();
    assert!(odd.contains("not UTF-8: rename"), "{odd}");
    seal_zip(&at("model.pt"), &mark(MODULE)).expect("sealed");
    write_json(&at("model.json"), MODULE, &json!({"step": 1})).expect("written");
    check_module(&at("model.pt")).expect("ours");
    for name in ["model.pt", "model.json"] {
        let whole = fs::read(at(name)).expect("read");
        for place in [whole.len() / 2, whole.len() - 3] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(at(name), bytes).expect("edited");
            let error = check_module(&at("model.pt")).expect_err("edited").to_string();
            assert!(error.contains(name) && error.contains("changed since"), "{error}");
        }
        fs::write(at(name), whole).expect("written");
    }
    // What holds nothing is taken.
    fs::write(at("empty.json"), "").expect("written");
    check_out(&at("empty.json"), "rows").expect("empty");
}

/// An older version's module carries no hash: it is ours as long as what it says of itself stands beside it.
#[test]
fn an_older_module_is_known_by_what_stands_beside_it() {
    let place = tempdir().expect("a folder");
    let (module, beside) = (place.path().join("model.pt"), place.path().join("model.json"));
    let about = r#"{"paper": "facenet", "step": 4}"#;
    let (other, newer) = (r#"{"paper": "facenet", "step": 5}"#, r#"{"paper": "facenet", "blake3": "0"}"#);
    for (inside, outside, ours) in [
        (about, Some(about), true),
        (about, Some(other), false),
        (about, None, false),
        (newer, Some(newer), false),
        ("{}", Some("{}"), false),
    ] {
        let mut zip = zip::ZipWriter::new(fs::File::create(&module).expect("made"));
        zip.start_file("model/extra/model.json", zip::write::SimpleFileOptions::default()).expect("begun");
        std::io::Write::write_all(&mut zip, inside.as_bytes()).expect("written");
        zip.finish().expect("ended");
        let _ = fs::remove_file(&beside);
        outside.map_or(Ok(()), |text| fs::write(&beside, text)).expect("written");
        let found = check_module(&module).map_err(|error| error.to_string());
        assert_eq!(found.is_ok(), ours, "{inside} {outside:?}: {found:?}");
        assert!(found.err().is_none_or(|error| error.contains("changed since")));
    }
}

/// A list that is made while it is written gives the file that it would give as a value.
#[test]
fn a_list_made_while_it_is_written_changes_no_byte() {
    let place = tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    let each = |row: usize| json!({"photo": format!("{row}\u{202e}\n.png"), "labels": [{"score": 0.1_f32}]});
    for count in [0, 1, 40] {
        let value = |photos: serde_json::Value| json!({"classes": ["a"], "photos": photos, "blake3": "old", "made": {"by": "x"}});
        write_json(&at("whole.json"), "tags", &value(json!((0..count).map(each).collect::<Vec<_>>())))
            .expect("written");
        let list = Listed { key: "photos", count, each: &each };
        write_said(&at("listed.json"), "tags", Said::new(&value(json!(null)), Some(list))).expect("written");
        assert_eq!(
            fs::read_to_string(at("listed.json")).expect("read"),
            fs::read_to_string(at("whole.json")).expect("read")
        );
        assert!(made(&at("listed.json"), "tags"));
    }
}

/// A list has no place for a mark: what stands beside it knows its content, and that of the one before, which a kill leaves.
#[test]
fn a_list_is_ours_as_it_was_written() {
    let place = tempdir().expect("a folder");
    let list = place.path().join("rows.csv");
    let write = |text: &str| {
        let fill = |mut file: fs::File| Ok(std::io::Write::write_all(&mut file, text.as_bytes())?);
        write_list(&list, "rows", fill, |said| write_json(&beside(&list), "rows", &said.into()))
    };
    for text in ["name,x\na,1\n", "name,x\na,2\n"] {
        write(text).expect("written");
        assert_eq!(fs::read_to_string(&list).expect("read"), text);
        assert!(made(&list, "rows") && !made(&list, "others"));
    }
    fs::write(&list, "name,x\na,1\n").expect("the one before");
    check(&list, "rows").expect("left by a kill");
    // What its user wrote or changed, what cannot be read, and what nothing is said of.
    let refused = |why: &str| {
        let before = fs::read(&list);
        let error = write("name,x\n").expect_err(why).to_string();
        assert!(error.contains("rows.csv") && error.contains("name another"), "{error}");
        assert_eq!(fs::read(&list).ok(), before.ok());
    };
    fs::write(&list, "name,x\na,1\nmine,1\n").expect("edited");
    refused("edited");
    fs::write(&list, "name,x\na,1\n").expect("written");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o000)).expect("closed");
    // SAFETY: of this thread alone. Root reads what is closed, and nobody does not.
    let reads_as = |user| unsafe { libc::setfsuid(user) };
    let own = reads_as(65534);
    refused("unreadable");
    reads_as(own as u32);
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).expect("open");
    check(&list, "rows").expect("as it was written");
    fs::remove_file(beside(&list)).expect("removed");
    refused("nothing beside it");
}

#[test]
fn what_a_run_keeps_is_no_verbs_there_or_not() {
    let place = tempdir().expect("a folder");
    let (run, elsewhere) = (place.path().join("run"), place.path().join("elsewhere"));
    fs::create_dir(&run).and_then(|()| fs::create_dir(&elsewhere)).expect("made");
    let config = Config::new("p", serde_json::Map::new(), serde_json::Value::Null, "cpu").expect("one");
    config.write_or_match(&run).expect("written");
    fs::create_dir(run.join("on-other")).expect("made");
    for name in [
        NEWEST,
        BEFORE,
        "best.safetensors",
        "config.json",
        "log.jsonl",
        "results.json",
        "report.html",
        "photos.csv",
        "model.json",
        "model-spatial.json",
        "table.json",
        "split.json",
        "on-other/results.json",
        ".lock",
    ] {
        let error = check_out(&run.join(name), "rows").expect_err(name).to_string();
        assert!(error.contains("--out") && error.contains(name) && error.contains("another"), "{error}");
        check_out(&elsewhere.join(Path::new(name).file_name().expect("a name")), "rows").expect(name);
    }
    hold_folder(&run, &[("report.html", "People")], &[]).expect_err("a run's page");
    check_out(&run.join("embeddings.safetensors"), "rows").expect("a name of its own");
    fs::write(run.join(NEWEST), "weights").expect("written");
    symlink(run.join(NEWEST), elsewhere.join("rows.safetensors")).expect("linked");
    let error = check_out(&elsewhere.join("rows.safetensors"), "rows").expect_err("a link").to_string();
    assert!(error.contains(NEWEST), "{error}");
}

/// Links of ours are replaced as often as one likes; what a user put among them, or made of them, stays, and so do the links.
#[test]
fn links_of_ours_alone_are_removed() {
    let place = tempdir().expect("a folder");
    let at = place.path().join("links");
    let names = ["person-0001/1-a", "person-0001/2-b", "person-0002/1-c"];
    let make = |names: &[&str]| {
        for name in names {
            symlink("/nowhere", common::made(at.join(name))).expect("linked");
        }
        links_made(&at, &names.iter().map(Into::into).collect::<Vec<_>>()).expect("said");
    };
    assert!(links_of(&at).expect("new").is_empty());
    fs::create_dir(&at).expect("made");
    assert!(links_of(&at).expect("empty").is_empty());
    for names in [&names[..], &[], &names[..2]] {
        make(names);
        assert_eq!(links_of(&at).expect("ours").len(), names.len());
        remove_links(&at).expect("removed");
        assert!(fs::read_dir(&at).expect("a folder").next().is_none());
    }
    // Files that file managers put into folders that they show are nobody's.
    for names in [&names[..0], &names[..]] {
        make(names);
        for file in [".DS_Store", ".directory", "person-0001/Thumbs.db"] {
            fs::write(common::made(at.join(file)), "shown").expect("written");
        }
        if names.is_empty() {
            fs::remove_dir_all(at.join("person-0001"))
                .and_then(|()| fs::remove_file(at.join("links.json")))
                .expect("no links");
        }
        assert_eq!(links_of(&at).expect("ours").len(), names.len());
        remove_links(&at).expect("removed");
        assert!(fs::read_dir(&at).expect("a folder").next().is_none());
    }
    make(&names);
    fs::remove_file(at.join(names[1])).expect("removed by its user");
    assert_eq!(links_of(&at).expect("ours").len(), 2);
    type Spoil = fn(&Path);
    let spoiled: [(&str, Spoil); 8] = [
        ("note", |at| fs::write(at.join("note"), "mine").expect("written")),
        ("3-mine", |at| symlink("/mine", at.join("person-0001/3-mine")).expect("linked")),
        ("2-b", |at| fs::write(at.join("person-0001/2-b"), "a photo in its place").expect("written")),
        ("1-a", |at| {
            fs::remove_file(at.join("person-0001/1-a")).expect("removed");
            symlink("/mine", at.join("person-0001/1-a")).expect("led elsewhere");
        }),
        ("Anna", |at| fs::rename(at.join("person-0002"), at.join("Anna")).expect("renamed")),
        ("links.json, by which this command knows its own links, is not there", |at| {
            fs::remove_file(at.join("links.json")).expect("removed");
        }),
        ("is not as it was written: restore it", |at| fs::write(at.join("links.json"), "{}").expect("written")),
        ("links.json: this command did not make it", |at| {
            fs::remove_dir_all(at).and_then(|()| fs::create_dir(at)).expect("made anew");
            fs::write(at.join("links.json"), "{}").expect("written");
        }),
    ];
    for (name, spoil) in spoiled {
        spoil(&at);
        let count = || walk(&at);
        let before = count();
        let error = remove_links(&at).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("name another"), "{error}");
        assert_eq!(count(), before);
        fs::remove_dir_all(&at).expect("removed");
        make(&names);
        if name == "3-mine" {
            fs::remove_file(at.join("person-0001/2-b")).expect("removed by its user");
        }
    }
    // An older version's list does not say where they led: what it names is ours, and nothing else.
    write_json(&at.join("links.json"), "links.json", &json!({"links": names})).expect("written");
    fs::remove_file(at.join(names[0])).and_then(|()| symlink("/elsewhere", at.join(names[0]))).expect("led elsewhere");
    assert_eq!(links_of(&at).expect("ours").len(), 3);
    symlink("/mine", at.join("person-0001/3-mine")).expect("linked");
    let error = remove_links(&at).expect_err("a user's").to_string();
    assert!(error.contains("3-mine") && walk(&at).len() == 5, "{error}");
    fs::remove_file(at.join("person-0001/3-mine")).expect("removed");
    remove_links(&at).expect("removed");
    assert!(fs::read_dir(&at).expect("a folder").next().is_none());
    symlink(&at, place.path().join("link")).expect("linked");
    links_of(&place.path().join("link")).expect_err("a link");
}

/// All paths below a folder.
fn walk(at: &Path) -> BTreeSet<PathBuf> {
    let below = |path: PathBuf| if path.is_dir() && !path.is_symlink() { walk(&path) } else { BTreeSet::from([path]) };
    fs::read_dir(at).expect("a folder").flatten().flat_map(|entry| below(entry.path())).collect()
}

/// Before the work: a folder that is missing where a file is named, and what is no folder where one is.
#[test]
fn what_leads_nowhere_is_said_before_the_work() {
    let place = tempdir().expect("a folder");
    let at = |name: &str| place.path().join(name);
    symlink("nowhere", at("link")).expect("linked");
    fs::write(at("file"), "mine").expect("written");
    for name in ["missing/rows.json", "link", "link/rows.json", "file/rows.json"] {
        let error = format!("{:#}", check_out(&at(name), "rows").expect_err(name));
        assert!(error.contains("--out") && error.contains("name another"), "{error}");
    }
    drop(hold_folder(&at("new/folder"), &[("rows.json", "rows")], &[]).expect("made while it is held"));
    for name in ["link", "file", "link/below"] {
        let error = format!("{:#}", hold_folder(&at(name), &[("rows.json", "rows")], &[]).expect_err(name));
        assert!(error.contains("--out"), "{error}");
    }
    let error = hold_folder(&at("file"), &[("rows.json", "rows")], &[]).expect_err("a file").to_string();
    assert!(error.ends_with("file: it is a file: name a folder"), "{error}");
    assert!(!at("new").exists() && !at("nowhere").exists());
}

/// Of two at once the second is refused before any work; what was made for nothing goes.
#[test]
fn a_folder_is_written_by_one_at_a_time() {
    let place = tempdir().expect("a folder");
    let out = place.path().join("new/out");
    let hold = || hold_folder(&out, &[("rows.json", "rows")], &[]);
    let held = hold().expect("new");
    let error = format!("{:#}", hold().expect_err("held"));
    assert!(error.starts_with("--out: another process is writing into ") && error.contains("new/out"), "{error}");
    assert!(out.exists());
    drop(held);
    assert!(!place.path().join("new").exists());
    let held = hold().expect("free");
    fs::write(out.join("rows.json"), "").expect("written");
    drop(held);
    assert!(out.join("rows.json").exists());
    drop(hold().expect("free again"));
    let photos = [place.path().join("new")];
    let error = hold_folder(&out.join("below"), &[], &[&[], &photos]).expect_err("among photos").to_string();
    assert!(error.contains("--out") && error.contains("beside it") && !out.join("below").exists(), "{error}");
}
