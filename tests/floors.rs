//! The house has floors, and a module names only modules of lower floors (or its own).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FLOORS: [&[&str]; 4] = [
    &["distance", "seed", "transfer"],
    &["mining", "losses", "metrics", "models", "optim", "schedule"],
    &["files", "weights", "datasets", "sampler", "transform", "loader", "video"],
    &["run", "export", "paper", "collectives"],
];

/// On a floor, what may name what: losses are made of mining's masks, pictures are read as data sets say, and the list of data
/// sets knows where weights come from.
const BESIDE: [(&str, &str); 14] = [
    ("weights", "files"),
    ("weights", "datasets"),
    ("losses", "mining"),
    ("datasets", "transform"),
    ("datasets", "loader"),
    ("datasets", "video"),
    ("video", "transform"),
    ("paper", "run"),
    ("run", "paper"),
    ("export", "run"),
    ("paper", "export"),
    ("run", "collectives"),
    ("collectives", "run"),
    ("paper", "collectives"),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("src").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules that a source names as `crate::name`, also within braces.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(inside) => {
                names.extend(inside.split('}').next().unwrap_or("").split(',').map(|part| word(part.trim())))
            }
            None => drop(names.insert(word(rest))),
        }
    }
    names
}

#[test]
fn modules_name_only_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).expect("inside src");
        let first = inside.components().next().expect("a part").as_os_str().to_string_lossy().to_string();
        let module = first.trim_end_matches(".rs").to_string();
        if ["lib", "native"].contains(&module.as_str()) {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("{module} has no floor: add it to FLOORS"));
        seen.insert(module.clone());
        for name in named(&std::fs::read_to_string(&path).expect("readable")) {
            let Some(other) = floor(&name) else { continue };
            let beside = BESIDE.contains(&(module.as_str(), name.as_str()));
            assert!(
                name == module || other < own || beside,
                "{} names crate::{name}, which is not below it",
                path.display()
            );
        }
    }
    assert_eq!(
        seen.len(),
        FLOORS.iter().map(|floor| floor.len()).sum::<usize>(),
        "a module of FLOORS is missing: {seen:?}"
    );
}

#[test]
fn papers_do_not_name_each_other() {
    let papers = Path::new(env!("CARGO_MANIFEST_DIR")).join("papers");
    let names = ["multilabel-ranking", "skill-determination", "facenet", "triplet-reid", "quadruplet"];
    for path in sources(&papers) {
        let text = std::fs::read_to_string(&path).expect("readable");
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
