//! COCO.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rankle::datasets::labels::open;

use super::{labels, picture, refused, write};

#[test]
fn coco_labels_are_the_categories_of_instances() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let json = |images: &str, annotations: &str| {
        format!(
            r#"{{"info":{{}},"images":[{images}],"annotations":[{annotations}],"categories":[{{"id":44,"name":"bottle","supercategory":"x"}},{{"id":1,"name":"person"}},{{"id":3,"name":"car"}}]}}"#
        )
    };
    let image = |id: u32, name: &str| format!(r#"{{"id":{id},"file_name":"{name}","width":24,"height":16}}"#);
    let one = |image: u32, category: u32| {
        format!(r#"{{"id":1,"image_id":{image},"category_id":{category},"bbox":[0,0,1,1],"iscrowd":1}}"#)
    };
    let train = [image(9, "a.jpg"), image(25, "b.jpg")].join(",");
    write(
        dir,
        "annotations/instances_train2014.json",
        &json(&train, &[one(25, 44), one(25, 1), one(25, 44)].join(",")),
    );
    write(dir, "annotations/instances_val2014.json", &json(&image(1, "c.jpg"), &one(1, 3)));
    for part in ["train2014", "val2014"] {
        refused(dir, &[part, " is missing: the photos of "]);
        fs::create_dir(dir.join(part)).expect("made");
    }
    let set = open(dir).expect("opens");
    // Classes by their number, whatever their order in the file; no label twice; images without one stay.
    assert_eq!(set.classes, ["person", "car", "bottle"]);
    assert_eq!(labels(&set.train), [("train2014/a.jpg", &[][..]), ("train2014/b.jpg", &[0, 2])]);
    assert_eq!(labels(&set.test), [("val2014/c.jpg", &[1][..])]);
    assert!(set.notes.iter().any(|note| note.contains("not the published COCO 2014")));
    picture(dir, "val2014/odd.jpg");
    write(dir, "train2014/odd.heic", "");
    let notes = open(dir).expect("opens").notes;
    assert!(notes.iter().any(|note| note == "no list names 1 image in val2014: odd.jpg"), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("passed over 1 photo that is not decoded here")), "{notes:?}");
    // What may not be read is none of the lists' photos; the first user reads all.
    let closed = dir.join("val2014/closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    if fs::read_dir(&closed).is_err() {
        let notes = open(dir).expect("opens").notes;
        let said = |note: &String| {
            note.contains("val2014/closed") && note.ends_with("what no list names in val2014 is not known")
        };
        assert!(notes.iter().any(said), "{notes:?}");
    }
    fs::remove_dir(&closed).expect("removed");
    let val = "annotations/instances_val2014.json";
    write(dir, val, &json(&image(1, "c.jpg"), &one(1, 2)));
    refused(dir, &["instances_val2014.json", "unknown category 2"]);
    write(dir, val, &json(&image(1, "c.jpg"), &one(7, 3)));
    refused(dir, &["instances_val2014.json", "image 7"]);
    write(dir, val, &json(&image(1, "../c.jpg"), ""));
    refused(dir, &["\"../c.jpg\" leads out of the images' folder"]);
    write(dir, val, &json(&image(1, "/home/me/c.jpg"), ""));
    refused(dir, &["is an absolute path"]);
    // As other programs write: a byte order mark, NaN, numbers as texts, folders (with \\, or from the root) in the names.
    picture(dir, "val2014/x/c.jpg");
    for name in ["x/c.jpg", "x\\\\c.jpg", "val2014/x/c.jpg", "./x/c.jpg"] {
        let odd = json(&image(1, name), &one(1, 3)).replace("\"image_id\":1", "\"image_id\":\"1\",\"area\":NaN");
        write(
            dir,
            val,
            &format!("\u{feff}{}", odd.replace("\"supercategory\":\"x\"", "\"supercategory\":\"\\\"NaN\"")),
        );
        assert_eq!(labels(&open(dir).expect(name).test), [("val2014/x/c.jpg", &[1][..])]);
    }
    // Numbers as programs write them: read where they are whole, refused by name where not.
    for (id, words) in [
        ("1.0", None),
        ("1e0", None),
        ("\"1\"", None),
        ("\"1.0\"", None),
        ("\"001\"", None),
        ("\"1e0\"", Some("an annotation of image 1e0, which is not listed")),
        ("1.5", Some("the id 1.5 is neither a whole number nor a text")),
        ("1e300", Some("the id 1e+300 is neither")),
        ("null", Some("the id null is neither")),
        ("[1]", Some("the id [1] is neither")),
        ("\"one\"", Some("an annotation of image one, which is not listed")),
    ] {
        let odd = json(&image(1, "c.jpg"), &one(1, 3)).replace("\"image_id\":1", &format!("\"image_id\":{id}"));
        write(dir, val, &odd);
        match words {
            Some(words) => refused(dir, &["instances_val2014.json", words]),
            None => assert_eq!(labels(&open(dir).expect(id).test), [("val2014/c.jpg", &[1][..])]),
        }
    }
    write(dir, val, &json(&image(1, "COCO_train2014_000000000001.jpg"), &one(1, 3)));
    refused(dir, &["instances_val2014.json: its images are COCO_train2014_*, those of the other part"]);
    write(dir, val, &json(&[image(1, "c.jpg"), image(1, "d.jpg")].join(","), ""));
    refused(dir, &["image 1 stands twice"]);
    write(dir, val, &json(&image(1, "c.jpg"), "").replace("\"id\":44", "\"id\":3"));
    refused(dir, &["instances_val2014.json: category 3 is both bottle and car"]);
    write(dir, val, &json(&image(1, "c.jpg"), "").replace("\"car\"", "\"cart\""));
    refused(dir, &["other categories"]);
    // One name under two numbers is one class, accents composed or apart.
    let (cafe, apart) = ("caf\u{e9}", "cafe\\u0301");
    let both = |text: String| text.replace("\"car\"", &format!("{cafe:?}")).replace("bottle", apart);
    let train = both(json(&train, &[one(25, 44), one(25, 1), one(9, 3)].join(",")));
    write(dir, "annotations/instances_train2014.json", &train);
    write(dir, val, &both(json(&image(1, "c.jpg"), &one(1, 44))));
    let set = open(dir).expect("opens");
    assert_eq!(
        (set.classes, labels(&set.test)),
        (vec!["person".into(), cafe.into()], vec![("val2014/c.jpg", &[1][..])])
    );
    assert!(set.notes.contains(&"3 categories have 2 names: those of one name are one class".to_string()));
    write(dir, val, "{\"images\": [");
    refused(dir, &["instances_val2014.json", "not COCO's instances"]);
    fs::remove_file(dir.join(val)).expect("removed");
    refused(dir, &["instances_val2014.json is missing"]);
    write(dir, "annotations/instances_val2017.json", "");
    refused(dir, &["instances_val2017.json: COCO 2017"]);
}
