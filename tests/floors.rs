//! The house has floors, as the map in src/lib.rs draws them: in its one ordered list, a module names only modules that
//! come before it.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// The modules of the map, floor after floor: what its list's lines have between backticks.
fn order(map: &str) -> Vec<String> {
    let lines = map.lines().skip_while(|line| !line.starts_with("//! - **Floor 0"));
    let list = lines.take_while(|line| line.starts_with("//! - **Floor") || line.starts_with("//!   "));
    list.flat_map(|line| line.split('`').skip(1).step_by(2)).map(String::from).collect()
}

/// The modules that a source names as `crate::name`, also within braces.
fn named(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(inside) => {
                // Inner braces give names that are no modules.
                let list = inside.split(';').next().unwrap_or("");
                names.extend(list.split(['{', ',', '}']).map(|part| word(part.trim())));
            }
            None => names.push(word(rest)),
        }
    }
    names
}

#[test]
fn modules_name_only_what_comes_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = std::fs::read_to_string(src.join("lib.rs")).expect("readable");
    let order = order(&map);
    let declared = |line: &'static str| map.lines().filter_map(move |text| text.strip_prefix(line)?.strip_suffix(';'));
    let mut declared: Vec<&str> = ["mod ", "pub mod "].into_iter().flat_map(declared).collect();
    declared.sort_unstable();
    let mut mapped: Vec<&str> = order.iter().map(String::as_str).collect();
    mapped.sort_unstable();
    assert_eq!(mapped, declared, "the map in src/lib.rs has every module once");
    let place = |name: &str| order.iter().position(|module| module == name);
    // The map itself, and what builds the C++.
    let files = sources(&src)
        .into_iter()
        .filter(|path| !["lib.rs", "native/build.rs"].iter().any(|other| path.ends_with(other)));
    for path in files {
        let inside = path.strip_prefix(&src).expect("inside src");
        let module = inside.components().next().expect("a part").as_os_str().to_string_lossy().to_string();
        let own = place(module.trim_end_matches(".rs")).unwrap_or_else(|| panic!("{module} is no module of the map"));
        for name in named(&std::fs::read_to_string(&path).expect("readable")) {
            let after = place(&name).is_some_and(|other| other > own);
            assert!(!after, "{} names crate::{name}, which comes after it", path.display());
        }
    }
}

#[test]
fn papers_do_not_name_each_other() {
    let papers = Path::new(env!("CARGO_MANIFEST_DIR")).join("papers");
    let all = sources(&papers);
    let names: Vec<_> = all.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    assert!(names.contains(&"facenet"), "{names:?}");
    for path in &all {
        let text = std::fs::read_to_string(path).expect("readable");
        let own = path.strip_prefix(&papers).expect("inside").to_string_lossy().to_string();
        for name in names.iter().filter(|name| !own.starts_with(*name)) {
            assert!(
                !text.contains(&format!("#[path = \"{name}"))
                    && !text.contains(&format!("mod {}", name.replace('-', "_"))),
                "{own} names {name}"
            );
        }
    }
}

#[test]
fn one_module_opens_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Whatever opens a file by its name may wait for a pipe or read a device for ever.
    const OPENS: [&str; 9] = [
        "File::open(",
        "File::create",
        "OpenOptions::",
        "fs::read(",
        "fs::read_to_string(",
        "fs::write(",
        "from_path(",
        "image::open(",
        "ImageReader::open(",
    ];
    for path in [sources(&root.join("src")), sources(&root.join("papers"))].concat() {
        if ["src/files.rs", "src/bounds.rs", "src/native/build.rs"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        for open in OPENS {
            assert!(!text.contains(open), "{} has {open}: crate::files opens files", path.display());
        }
    }
}
