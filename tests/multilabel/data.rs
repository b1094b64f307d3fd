//! VOC, COCO, NUS-WIDE, Mulan, labels.csv: what is read, and what is refused in one line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rankle::datasets::Look;
use rankle::datasets::drawn::Shapes;
use rankle::datasets::labels::{Content, LabelLayout, LabelSet, open};

/// A JPEG at `dir/name`.
fn picture(dir: &Path, name: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, 60])).save(path).expect("saved");
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

#[test]
fn a_known_mulan_set_is_compared_with_its_published_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(dir, "scene.xml", XML);
    for part in ["train", "test"] {
        write(dir, &format!("scene-{part}.arff"), &format!("{HEAD}1,0.5,red,0,1\n"));
    }
    let set = open(&dir.join("scene")).expect("opens");
    let notes = set.notes.join("\n");
    assert!(
        !set.published
            && notes.contains("not the published scene of Mulan: 1 training rows (published 1,211)")
            && notes.contains("3 features (published 294)")
            && notes.contains("2 labels (published 6)")
            && notes.contains("1 row of the -test file is in the -train file too, of 1:"),
        "{notes}"
    );
    for (part, rows) in [("train", 1196), ("test", 1211)] {
        write(dir, &format!("scene-{part}.arff"), &format!("{HEAD}{}", "1,0.5,red,0,1\n".repeat(rows)));
    }
    let notes = open(&dir.join("scene")).expect("opens").notes.join("\n");
    assert!(notes.contains("1,196 training rows and 1,211 test rows, which are in each other's place"), "{notes}");
}

/// The error's only line.
fn line(dir: &Path) -> String {
    let text = format!("{:#}", open(dir).expect_err("an error"));
    assert!(!text.contains('\n'), "{text}");
    text
}

fn refused(dir: &Path, words: &[&str]) {
    let text = line(dir);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn labels(items: &[rankle::datasets::labels::Item]) -> Vec<(&str, &[u32])> {
    items.iter().map(|item| (item.name.as_str(), item.labels.as_slice())).collect()
}

#[test]
fn voc_takes_every_object_and_knows_the_difficult_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let xml = |objects: &[(&str, u8)]| {
        let objects = objects.iter().map(|(name, difficult)| {
            format!(
                "<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
            )
        });
        format!("<annotation><filename>x</filename>{}</annotation>", objects.collect::<String>())
    };
    write(dir, "ImageSets/Main/trainval.txt", "000005\n000007\n\n");
    write(dir, "ImageSets/Main/test.txt", "000001\r\n");
    write(dir, "Annotations/000005.xml", &xml(&[("chair", 0), ("chair", 1), ("aeroplane", 1)]));
    write(dir, "Annotations/000007.xml", &xml(&[]));
    write(dir, "Annotations/000001.xml", &xml(&[("person", 0), ("dog", 0)]));
    ["000005", "000007", "000001"].iter().for_each(|id| picture(dir, &format!("JPEGImages/{id}.jpg")));
    let set = open(dir).expect("opens");
    assert_eq!((set.layout, set.classes.len(), set.published), (LabelLayout::Voc2007, 20, false));
    assert_eq!(labels(&set.train), [("JPEGImages/000005.jpg", &[0, 8][..]), ("JPEGImages/000007.jpg", &[])]);
    assert_eq!(set.train[0].difficult, [0]);
    assert_eq!(labels(&set.test), [("JPEGImages/000001.jpg", &[11, 14][..])]);
    assert!(set.notes.iter().any(|note| note.contains("2 trainval images (published 5,011)")), "{:?}", set.notes);
    assert!(!set.notes.iter().any(|note| note.contains("no list names")), "{:?}", set.notes);
    set.check(true, Look::ALL).expect("all images are there");
    let set = set.without_unlabelled();
    assert_eq!(set.train.len(), 1);
    assert!(set.notes.iter().any(|note| note.contains("left out 1 training item without a label")));
    // As unpacked, one level up.
    let up = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(up.path().join("VOCdevkit")).expect("made");
    std::os::unix::fs::symlink(dir, up.path().join("VOCdevkit/VOC2007")).expect("linked");
    for at in [up.path(), &up.path().join("VOCdevkit")] {
        assert_eq!(open(at).expect("opens").train.len(), 2);
    }
    // What a list names twice counts once; what both lists name is told.
    write(dir, "ImageSets/Main/trainval.txt", "000005\n000007\n000005\n");
    write(dir, "ImageSets/Main/test.txt", "000001\n000007\n");
    let again = open(dir).expect("opens");
    assert_eq!((again.train.len(), again.test.len()), (2, 2));
    let notes = again.notes.join("\n");
    assert!(notes.contains("trainval.txt: left out 1 image named a second time: JPEGImages/000005.jpg"), "{notes}");
    assert!(notes.contains("1 image in the training list and in the test list: JPEGImages/000007.jpg"), "{notes}");
    assert!(again.card().to_string().contains("note: trainval.txt: left out 1 image"));
    write(dir, "ImageSets/Main/test.txt", "000001\n");
    // Truncated image, unknown class, broken XML, a class list for an image list.
    let bytes = fs::read(dir.join("JPEGImages/000001.jpg")).expect("there");
    fs::write(dir.join("JPEGImages/000001.jpg"), &bytes[..bytes.len() / 2]).expect("cut");
    let error = format!("{:#}", open(dir).expect("opens").check(true, Look::ALL).expect_err("cut"));
    assert!(error.contains("1 of 3 images") && error.contains("000001.jpg"), "{error}");
    write(dir, "Annotations/000001.xml", &xml(&[("unicorn", 0)]));
    refused(dir, &["000001.xml", "unicorn"]);
    write(dir, "Annotations/000001.xml", "<annotation><object>");
    refused(dir, &["000001.xml", "no whole XML"]);
    write(dir, "ImageSets/Main/test.txt", "000001 -1\n");
    refused(dir, &["test.txt:1", "no image's name"]);
    write(dir, "ImageSets/Main/test.txt", "../../secret\n");
    refused(dir, &["test.txt:1"]);
    fs::remove_file(dir.join("ImageSets/Main/test.txt")).expect("removed");
    refused(dir, &["test.txt is missing"]);
}

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

#[test]
fn nus_wide_reports_its_defects() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(dir, "ConceptsList/Concepts81.txt", "airport\nlake\n");
    write(dir, "ImageList/TrainImagelist.txt", "a\\0001_1.jpg\nb\\0002_2.jpg\nb\\0003_3.jpg\n");
    write(dir, "ImageList/TestImagelist.txt", "a/0004_4.jpg\n");
    let labels_at = |concept: &str, part: &str| format!("Groundtruth/TrainTestLabels/Labels_{concept}_{part}.txt");
    write(dir, &labels_at("airport", "Train"), "1.0\n0.0\n0\n");
    write(dir, &labels_at("lake", "Train"), "1\n1\n-1130179\n");
    write(dir, &labels_at("airport", "Test"), "0\n");
    write(dir, &labels_at("lake", "Test"), "1\n");
    ["a/0001_1.jpg", "b/0003_3.jpg", "a/0004_4.jpg"].iter().for_each(|name| picture(dir, &format!("images/{name}")));
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/a/0001_1.jpg", &[0, 1][..]), ("images/b/0003_3.jpg", &[])]);
    assert_eq!(labels(&set.test), [("images/a/0004_4.jpg", &[1][..])]);
    let notes = set.notes.join("\n");
    assert!(
        notes.contains("Labels_lake_Train.txt:3: \"-1130179\"") && notes.contains("1 of 4 listed images are not here"),
        "{notes}"
    );
    // A path that the list names again, with other labels.
    write(dir, "ImageList/TrainImagelist.txt", "a\\0001_1.jpg\nb/0003_3.jpg\nb\\0003_3.jpg\n");
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/a/0001_1.jpg", &[0, 1][..]), ("images/b/0003_3.jpg", &[1])]);
    let notes = set.notes.join("\n");
    assert!(
        notes.contains(
            "TrainImagelist.txt: left out 1 image named a second time, 1 with other labels: images/b/0003_3.jpg"
        ) && !notes.contains("are not here"),
        "{notes}"
    );
    write(dir, &labels_at("lake", "Test"), "1\n0\n");
    refused(dir, &["Labels_lake_Test.txt", "2 labels for the 1 images"]);
    write(dir, "ImageList/TestImagelist.txt", "../a.jpg\n");
    refused(dir, &["TestImagelist.txt", "leads out"]);
    fs::rename(dir.join("images"), dir.join("Flickr")).expect("renamed");
    refused(dir, &["Flickr: rename"]);
}

const XML: &str = r#"<?xml version="1.0"?><labels xmlns="http://mulan.sourceforge.net/labels"><label name="wet"><label name="deep"/></label></labels>"#;
const HEAD: &str = "% a remark\n@relation 'x: -C 2'\n\n@attribute wet {0,1}\n@attribute 'a b' numeric\n@ATTRIBUTE kind {red, 'dark blue'}\n@attribute deep {0, 1}\n@attribute z REAL\n@data\n";

#[test]
fn arff_is_read_dense_and_sparse() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(dir, "x.xml", XML);
    write(dir, "x-train.arff", &format!("{HEAD}1,0.5,red,0,-1e2\n% remark\n0, 2 , 'dark blue', 1, .25\r\n"));
    write(dir, "x-test.arff", &format!("{HEAD}{{1 0.5, 3 1}}\n{{}}\n{{0 1,2 'dark blue', 4 7}}\n"));
    let set = open(&dir.join("x")).expect("opens");
    assert_eq!(
        (set.layout, set.name.as_str(), set.classes.as_slice()),
        (LabelLayout::Mulan, "x", &["wet".to_string(), "deep".into()][..])
    );
    let row = |items: &[rankle::datasets::labels::Item], i: usize| match &items[i].content {
        Content::Features(row) => (row.to_vec(), items[i].labels.clone()),
        Content::Image(_) => panic!("features"),
    };
    assert_eq!(row(&set.train, 0), (vec![0.5, 0., -100.], vec![0]));
    assert_eq!(row(&set.train, 1), (vec![2., 1., 0.25], vec![1]));
    assert_eq!(row(&set.test, 0), (vec![0.5, 0., 0.], vec![1]));
    assert_eq!(row(&set.test, 1), (vec![0., 0., 0.], vec![]));
    assert_eq!(row(&set.test, 2), (vec![0., 1., 7.], vec![0]));
    assert_eq!(set.feature_width(), Some(3));
    assert!(set.card().to_string().contains("3 features a row"));
    refused(dir, &["holds a set: say", "x"]);
    let slash = std::path::PathBuf::from(format!("{}/x/", dir.display()));
    assert_eq!(open(&slash).expect("opens").name, "x");
    refused(&dir.join("x.xml"), &["one file of a Mulan set: say", "/x"]);
    refused(&dir.join("x-test.arff"), &["one file of a Mulan set: say", "/x"]);
    for (bad, words) in [
        ("1,0.5,red,0\n", &["x-train.arff:10", "4 values"][..]),
        ("1,0.5,red,0,1,2\n", &["x-train.arff:10", "more than the 5"]),
        ("1,nan,red,0,1\n", &["x-train.arff:10", "a b is \"nan\""]),
        ("1,?,red,0,1\n", &["a b is \"?\""]),
        ("1,1,green,0,1\n", &["kind is \"green\""]),
        ("2,1,red,0,1\n", &["wet is \"2\""]),
        ("{9 1}\n", &["no attribute of that number"]),
        ("{1 1\n", &["closing brace"]),
        ("{1}\n", &["no value"]),
        ("{1 2, 1 3}\n", &["attribute 1 stands twice"]),
        ("{4 2, 1 3}\n", &["attribute 1 stands twice, or after a higher one"]),
        ("1,0.5,'red,0,1\n", &["a quote that is never closed"]),
        ("1,0.5,red,0,\n", &["z is \"\""]),
        ("1,,red,0,1\n", &["a b is \"\""]),
    ] {
        write(dir, "x-train.arff", &format!("{HEAD}{bad}"));
        refused(&dir.join("x"), words);
    }
    for (bad, words) in [
        (HEAD.replace("@data", ""), "no @data line"),
        (HEAD.replace("deep", "dry"), "no attribute for the label deep"),
        (HEAD.replace("REAL", "date"), "not an attribute"),
        (HEAD.replace("'a b'", "'a b"), "not an attribute"),
        (HEAD.replace("{0, 1}", "{yes, no}"), "the label deep has the words {yes,no}: Mulan's labels have {0,1}"),
        (HEAD.replace("{0, 1}", "{0, 1, 2}"), "the label deep has the words {0,1,2}"),
        (HEAD.replace(" z ", " kind "), "the attribute kind stands twice"),
        (HEAD.to_string(), "nothing to train on"),
        (format!("{}1,0.5,red,0,1\n", HEAD.replace(" z ", " zz ")), "other attributes"),
    ] {
        write(dir, "x-train.arff", &bad);
        refused(&dir.join("x"), &[words]);
    }
    write(dir, "x.xml", "<labels></labels>");
    refused(&dir.join("x"), &["no <label name"]);
    fs::remove_file(dir.join("x-train.arff")).expect("removed");
    write(dir, "x.xml", XML);
    refused(&dir.join("x"), &["x-train.arff is missing"]);
}

#[test]
fn what_a_sparse_row_leaves_out_is_the_first_declared_word() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(dir, "x.xml", XML);
    // Weka's internal 0; and Mulan asks whether the word is 1. So a label declared {1,0} is there where it is left out.
    let head = "@relation x\n@attribute wet {1,0}\n@attribute deep {0,1}\n@attribute size {5,3,4}\n@attribute 'it\\'s, a' {'b, c', \"d e\", f}\n@attribute n numeric\n@data\n";
    write(
        dir,
        "x-train.arff",
        &format!("{head}{{}}\n{{0 0}}\n{{1 1, 2 3, 3 'd e'}}\n{{0 1,2\t4,3 f,4 -2}} % remark\n"),
    );
    write(
        dir,
        "x-test.arff",
        &format!("{head}1,0,5,'b, c',0\n0,0,5,'b, c',0 % remark\n1\t1 3  \"d e\" 0\n1,0,4,f,-2\n"),
    );
    let set = open(&dir.join("x")).expect("opens");
    let rows = |items: &[rankle::datasets::labels::Item]| -> Vec<(Vec<f32>, Vec<u32>)> {
        let row = |item: &rankle::datasets::labels::Item| match &item.content {
            Content::Features(row) => (row.to_vec(), item.labels.clone()),
            Content::Image(_) => panic!("features"),
        };
        items.iter().map(row).collect()
    };
    let wanted = [
        (vec![5., 0., 0.], vec![0]),
        (vec![5., 0., 0.], vec![]),
        (vec![3., 1., 0.], vec![0, 1]),
        (vec![4., 2., -2.], vec![0]),
    ];
    assert_eq!(rows(&set.train), wanted);
    // The dense rows say the same.
    assert_eq!(rows(&set.test), wanted);
}

#[test]
fn a_plain_list_needs_image_and_labels() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write(
        dir,
        "labels.csv",
        "\u{feff}Image,labels,split\na.jpg,sky;sea,train\nb.jpg,,train\n\"c, d.jpg\",sea; sky;sea,test\n",
    );
    let set = open(dir).expect("opens");
    assert_eq!(set.classes, ["sea", "sky"]);
    assert_eq!(labels(&set.train), [("images/a.jpg", &[0, 1][..]), ("images/b.jpg", &[])]);
    assert_eq!(labels(&set.test), [("images/c, d.jpg", &[0, 1][..])]);
    // Excel's of another country, Windows' backslashes and line ends; a list that names the folder too.
    picture(dir, "images/f/b.jpg");
    write(dir, "labels.csv", "image;labels;split\r\nf\\a.jpg;\"sky;sea\";train\r\n\r\nimages\\f\\b.jpg;sea;test\r\n");
    let set = open(dir).expect("opens");
    assert_eq!(labels(&set.train), [("images/f/a.jpg", &[0, 1][..])]);
    assert_eq!(labels(&set.test), [("images/f/b.jpg", &[0][..])]);
    write(dir, "labels.csv", "image;labels;split\na.jpg;caf\u{e9},sea;train\nb.jpg;sea,cafe\u{301};test\n");
    let set = open(dir).expect("opens");
    assert_eq!(
        (set.classes, labels(&set.test)),
        (vec!["caf\u{e9}".into(), "sea".into()], vec![("images/b.jpg", &[0, 1][..])])
    );
    // Accents apart, as macOS names files.
    picture(dir, "images/e\u{301}.jpg");
    write(dir, "labels.csv", "image,labels,split\n\u{e9}.jpg,sky,train\nb.jpg,sea,test\n");
    let Content::Image(source) = open(dir).expect("opens").train.remove(0).content else { panic!("an image") };
    source.check().expect("found");
    let rows: String = (0..8).map(|i| format!("{i}.jpg,{}\n", ["sky", "sea"][i % 2])).collect();
    write(dir, "labels.csv", &format!("image,labels\n{rows}"));
    let set = open(dir).expect("opens");
    assert_eq!((set.train.len(), set.test.len()), (6, 2));
    assert!(set.notes.iter().any(|note| note.contains("2 of 8 images held out")), "{:?}", set.notes);
    // What no row names; what is missing is named when it is looked for.
    let unnamed = "no list names 2 images in images: e\u{301}.jpg";
    assert!(set.notes.iter().any(|note| note == unnamed), "{:?}", set.notes);
    let card = set.card();
    assert_eq!(card.unreadable, 8);
    assert!(card.problems.iter().any(|problem| problem.contains("images/0.jpg: no such file")), "{:?}", card.problems);
    for (bad, words) in [
        ("name,labels\na.jpg,x\n", "no column image"),
        ("image,labels,split\na.jpg,x,dev\n", "labels.csv:2: the split is \"dev\""),
        ("image,labels\na.jpg,x\na.jpg,y\n", "labels.csv:3: images/a.jpg stands twice"),
        ("image,labels\na.jpg,\"cat, dog\"\n", "labels.csv:2: the class \"cat, dog\": write ; between"),
        ("image,labels\na.jpg,cat|dog\n", "labels.csv:2: the class \"cat|dog\": write ; between"),
        ("image,labels\na.jpg,dog\nb.jpg,cat;DOG\n", "labels.csv:3: DOG is dog in line 2: "),
        ("image,labels,Labels\na.jpg,x,y\n", "labels.csv:1: two columns are called labels"),
        ("image,labels\n../a.jpg,x\n", "labels.csv:2: the image \"../a.jpg\" leads out of the images' folder"),
        ("image,labels\n\na.jpg,x,y\n", "labels.csv:3: 3 columns where the first line has 2"),
        ("image,labels\nC:\\a.jpg,x\n", "is an absolute path"),
        ("image,labels\na.jpg,x\nb.jpg,x\nc.jpg,x\nd.jpg,x\n", "has one class"),
    ] {
        write(dir, "labels.csv", bad);
        refused(dir, &[words]);
    }
    let nothing = tempfile::tempdir().expect("a folder");
    refused(nothing.path(), &["no JPEGImages (VOC)"]);
    // The folder that was meant; one that has all but its photos, or a name in other letters.
    write(nothing.path(), "a/set/labels.csv", "image,labels\n");
    fs::create_dir_all(nothing.path().join("a/set/images")).expect("made");
    refused(nothing.path(), &["give ", "a/set, which looks like a set"]);
    refused(&nothing.path().join("a/set/images"), &["give ", "a/set, which looks like a set"]);
    fs::rename(nothing.path().join("a/set/images"), nothing.path().join("a/set/Images")).expect("moved");
    refused(&nothing.path().join("a/set"), &["Images: call it images"]);
    write(nothing.path(), "voc/ImageSets/Main/trainval.txt", "");
    fs::create_dir_all(nothing.path().join("voc/JPEGImages")).expect("made");
    refused(&nothing.path().join("voc"), &["test.txt is missing: VOC2007 comes in two archives"]);
    refused(Path::new("data/VOC2007-none"), &["no folder"]);
    refused(Path::new("nowhere/VOC2007"), &["scripts/fetch voc2007"]);
    refused(Path::new("nowhere/coco2014"), &["scripts/fetch coco2014"]);
}

#[test]
fn drawn_images_are_functions_of_their_number_with_correlated_labels() {
    let shapes = Shapes { train: 600, test: 10, ..Shapes::default() };
    let set: LabelSet = shapes.set();
    assert_eq!((set.train.len(), set.test.len(), set.classes.len()), (600, 10, 10));
    assert_eq!(shapes.draw(7), shapes.draw(7));
    assert_ne!(shapes.draw(7).0, shapes.draw(8).0);
    assert_eq!(set.train[7].labels, shapes.draw(7).1);
    assert!(
        set.train.iter().all(|item| !item.labels.is_empty() && item.labels.windows(2).all(|pair| pair[0] < pair[1]))
    );
    let has = |item: &rankle::datasets::labels::Item, class: u32| item.labels.contains(&class);
    let share = |of: &dyn Fn(&rankle::datasets::labels::Item) -> bool| {
        set.train.iter().filter(|item| of(item)).count() as f64 / set.train.len() as f64
    };
    // Discs and rings keep company; every class is common enough to be learned.
    let both = share(&|item| has(item, 0) && has(item, 3));
    assert!(both > 1.2 * share(&|item| has(item, 0)) * share(&|item| has(item, 3)), "{both}");
    assert!((0..10).all(|class| share(&|item| has(item, class)) > 0.1));
    let counts: std::collections::BTreeSet<usize> = set.train.iter().map(|item| item.labels.len()).collect();
    assert!(counts.len() >= 6, "{counts:?}");
}

#[test]
fn dev_items_are_set_aside_by_the_seed() {
    let set = Shapes { train: 50, test: 1, side: 16, seed: 2 }.set();
    let (train, dev) = set.dev(0.1, 3);
    assert_eq!((train.len(), dev.len()), (45, 5));
    let names =
        |items: &[rankle::datasets::labels::Item]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    assert!(names(&dev).iter().all(|name| !names(&train).contains(name)));
    assert_eq!(names(&dev), names(&set.dev(0.1, 3).1));
    assert_ne!(names(&dev), names(&set.dev(0.1, 4).1));
    assert_eq!(set.dev(0., 1).1.len(), 0);
}

#[test]
fn the_real_small_sets_have_their_counts() {
    let root = std::env::var_os("RANKLE_SHARED_DATA").map(std::path::PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    if !root.join("mulan").is_dir() {
        println!("skipped: no mulan in the shared data");
        return;
    }
    for (name, train, test, features, classes, labels) in
        [("scene", 1211, 1196, 294, 6, 1286), ("yeast", 1500, 917, 103, 14, 6342)]
    {
        let set = open(&root.join("mulan").join(name)).expect("opens");
        assert_eq!((set.train.len(), set.test.len(), set.feature_width()), (train, test, Some(features)));
        assert_eq!(set.classes.len(), classes);
        assert!(set.published, "{:?}", set.notes);
        let count: usize = set.train.iter().map(|item| item.labels.len()).sum();
        assert_eq!(count, labels, "{name}");
    }
}
