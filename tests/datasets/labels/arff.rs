//! Mulan's files.

use std::fs;

use rankle::datasets::labels::{Content, LabelLayout, open};

use super::{refused, write};

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
        (
            format!("{}1,0.5,red,0,1\n", HEAD.replace(" z ", " zz ")),
            "other attributes than in the -train file (attribute 3 is \"z\", not \"zz\")",
        ),
        (
            format!("{}1,0.5,red,0,1\n", HEAD.replace("red, 'dark blue'", "'dark blue', red")),
            "attribute 2 is \"kind {red,dark blue}\"",
        ),
    ] {
        write(dir, "x-train.arff", &bad);
        refused(&dir.join("x"), &[words]);
    }
    // Rows to test alone are a set.
    write(dir, "x-train.arff", HEAD);
    let set = open(&dir.join("x")).expect("opens");
    assert_eq!((set.train.len(), set.feature_width()), (0, Some(3)));
    write(dir, "x-test.arff", HEAD);
    refused(&dir.join("x"), &["nothing to test"]);
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
