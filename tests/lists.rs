//! Lists as people's programs write them.

use std::path::PathBuf;

use rankle::lists::{found, inside, json, parted, person, records, spellings, text};

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("list.csv");
    std::fs::write(&path, bytes).expect("written");
    (place, path)
}

#[test]
fn rows_are_those_of_a_spreadsheet() {
    let utf16 = |text: &str| [b"\xff\xfe".to_vec(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let wanted = vec![(1, vec!["a", "B, \"C\" é"]), (3, vec!["x", ""]), (4, vec!["d e", "f"])];
    for bytes in [
        "a,\"B, \"\"C\"\" é\"\n\nx,\nd e,f".as_bytes().to_vec(),
        "\u{feff}a , \"B, \"\"C\"\" é\" \r\n \r\nx,\r\n d e ,f\r\n".as_bytes().to_vec(),
        "a;\"B, \"\"C\"\" é\"\r;\rx;\rd e;f\r".as_bytes().to_vec(),
        "a\t\"B, \"\"C\"\" é\"\n\t\nx\t\nd e\tf\n".as_bytes().to_vec(),
        utf16("a\t\"B, \"\"C\"\" é\"\r\n\r\nx\t\r\nd e\tf\r\n"),
        b"a,\"B, \"\"C\"\" \xe9\"\n\nx,\nd e,f\n".to_vec(),
    ] {
        let (_place, path) = written(&bytes);
        let found = records(&path).expect("rows");
        let found: Vec<_> =
            found.iter().map(|row| (row.line, row.fields.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        assert_eq!(found, wanted, "{:?}", String::from_utf8_lossy(&bytes));
    }
    for (list, line) in
        [("a,b\nc,\"d\ne,f\n", 2), ("a,b\n\nc,\"d\ne\",f\ng,h", 3), ("\"a,b\n", 1), ("a,b\nc,d\n\"e\",\"f", 3)]
    {
        let (_place, path) = written(list.as_bytes());
        let error = format!("{:#}", records(&path).expect_err("open"));
        assert!(error.contains(&format!("list.csv:{line}: a quote opens here")), "{list:?}: {error}");
    }
    // One folder, one name: commas of names do not part columns.
    for (list, mark) in [
        ("1;Doe, Jo\n2;Solo\n", ';'),
        ("1;Doe, Jo\n2;Roe, Al\n", ';'),
        ("a,b;c\nd,e\n", ','),
        ("a;b,c\nd,e;f\n", ';'),
        ("Doe, Jo\nSolo\nRoe; Al\n", ','),
        ("a,b\tc;d\n", '\t'),
    ] {
        let (_place, path) = written(list.as_bytes());
        assert_eq!(parted(&path).expect(list).0, mark, "{list:?}");
    }
    let (_place, path) = written("Jose\u{301},\u{1112}\u{1161}".as_bytes());
    assert_eq!(records(&path).expect("rows")[0].fields, ["Jos\u{e9}", "\u{d558}"], "accents are composed");
    let (_place, path) = written(b"sep=;\r\na,b;c\r\n");
    let row = &records(&path).expect("rows")[0];
    assert_eq!((row.line, &row.fields[..]), (2, &["a,b".to_string(), "c".to_string()][..]));
    let (_place, path) = written(b"a\0b");
    assert!(format!("{:#}", text(&path).expect_err("no text")).contains("not a text file"));
    let (_place, path) = written("\u{feff}{\"a\": [NaN, -Infinity, \"NaN \\\" NaN\"]}".as_bytes());
    let value: serde_json::Value = json(&path).expect("JSON");
    assert_eq!(value, serde_json::json!({"a": [null, null, "NaN \" NaN"]}));
}

#[test]
fn names_are_one_as_people_write_them() {
    for (a, b, same) in [
        ("George_W_Bush", "george w. bush", true),
        ("Bush, George W.", "George-W Bush", true),
        ("Bo_Sample,_Jr.", "Bo_Sample_Jr", true),
        ("José María Aznar", "Jose_Maria_Aznar", true),
        ("Jose\u{301} Aznar", "josé aznar", true),
        ("Lech Wałęsa", "Lech_Walesa", true),
        ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}", true),
        ("İlkay", "ilkay", true),
        ("O'Neal", "oneal", true),
        ("Ann_Amos", "Anna Mos", false),
        ("か", "が", false),
        ("1_11", "11_1", false),
        ("n000001", "n000010", false),
        ("王芳", "王方", false),
    ] {
        assert_eq!(!spellings(a).is_disjoint(&spellings(b)), same, "{a} {b} {} {}", person(a), person(b));
    }
    assert!(spellings("---").is_empty());
    assert_eq!(inside(".\\a\\b.jpg"), Ok("a/b.jpg".into()));
    for bad in ["", "a/", "..", "a/../../b", "/a.jpg", "\\\\server\\a.jpg", "c:\\a.jpg"] {
        assert!(inside(bad).is_err(), "{bad}");
    }
}

/// Letters that no form gives back, once composed.
#[test]
fn a_file_is_found_by_its_composed_name_and_an_ending_of_either_case() {
    let place = tempfile::tempdir().expect("a folder");
    for (there, listed) in
        [("\u{fa1b}", "\u{798f}"), ("\u{212b}", "\u{c5}"), ("\u{2126}", "\u{3a9}"), ("e\u{301}", "\u{e9}")]
    {
        let file = place.path().join(format!("{there}/{there}.jpg"));
        std::fs::create_dir(file.parent().expect("a folder")).expect("made");
        std::fs::write(&file, "").expect("written");
        assert_eq!(found(place.path().join(format!("{listed}/{listed}.jpg"))), file);
        assert!(!found(place.path().join(format!("{listed}/{listed}.png"))).exists());
    }
    for (there, listed, is) in [("1.JPG", "1.jpg", true), ("2.png", "2.PNG", true), ("A.jpg", "a.jpg", false)] {
        std::fs::write(place.path().join(there), "").expect("written");
        assert_eq!(found(place.path().join(listed)).exists(), is, "{listed}");
    }
}
