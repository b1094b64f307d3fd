//! What keeps a run safe: the watch, the log, configuration, checkpoints and atomic files.

mod board;
mod cached;
mod folder;
mod stop;

use rankle::device;
use rankle::device::autocast;
use rankle::files::{atomically, write_atomic};
use rankle::hyper;
use rankle::optim::{Optimizer, Rule};
use rankle::run::checkpoint::{self, Progress};
use rankle::run::config::Config;
use rankle::run::folder::{Log, Mark, RunFolder};
use rankle::run::history;
use rankle::run::photos::{Photos, Read};
use rankle::run::stats;
use rankle::run::watch::{Collapse, Finite, Reading, Watch};
use serde_json::{Value, json};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use crate::common::value;

fn reading(loss: f64, median_distance: f64) -> Reading {
    Reading { what: Collapse::Embeddings, loss, collapsed_loss: 0.2, median_distance, mean_norm: 1. }
}

#[test]
fn a_lasting_collapse_is_named_once_and_a_passing_one_is_not() {
    let mut watch = Watch::default();
    assert_eq!(watch.read(reading(0.5, 1.)), None);
    // Shrinks and recovers, as trainings do at first.
    for _ in 0..Watch::PATIENCE - 1 {
        assert_eq!(watch.read(reading(0.2, 0.01)), None);
    }
    assert_eq!(watch.read(reading(0.1, 0.5)), None);
    // At the margin with living distances: no collapse. Small distances away from the margin: none either.
    for _ in 0..20 {
        assert_eq!(watch.read(reading(0.2, 0.8)), None);
        assert_eq!(watch.read(reading(0.05, 0.01)), None);
    }
    let said: Vec<_> = (0..20).filter_map(|_| watch.read(reading(0.2, 0.001))).collect();
    assert_eq!(said.len(), 1);
    for word in ["collapsed", "--lr", "--margin", "same embedding"] {
        assert!(said[0].contains(word), "{}", said[0]);
    }
    // Its state goes through a checkpoint.
    let text = serde_json::to_string(&watch).expect("JSON");
    assert_eq!(serde_json::from_str::<Watch>(&text).expect("back"), watch);
}

#[test]
fn a_learned_metric_that_stays_equal_is_named_after_longer_patience() {
    let mut watch = Watch::default();
    let stuck =
        Reading { what: Collapse::Metric, loss: 1.5, collapsed_loss: 1.5, median_distance: 0.001, mean_norm: 1. };
    for _ in 0..Watch::PATIENCE_METRIC - 1 {
        assert!(watch.read(stuck).is_none());
    }
    let text = watch.read(stuck).expect("named");
    assert!(text.contains("one g for all pairs") && text.contains("--lr"), "{text}");
    assert!(watch.read(stuck).is_none(), "once");
    assert!(watch.read(Reading { median_distance: 0.3, loss: 1.2, ..stuck }).is_none());
}

#[test]
fn a_loss_that_was_ever_not_finite_is_found() {
    let mut finite = Finite::new(Device::Cpu);
    finite.note(&Tensor::from(1.));
    finite.check(3, "kept").expect("finite");
    for bad in [f64::NAN, f64::INFINITY] {
        let mut finite = Finite::new(Device::Cpu);
        finite.note(&Tensor::from(bad));
        finite.note(&Tensor::from(1.));
        let error = finite.check(4, "the checkpoint of step 2 is kept").expect_err("found").to_string();
        assert!(error.contains("step 4") && error.contains("step 2 is kept") && error.contains("--lr"), "{error}");
    }
    let store = VarStore::new(Device::Cpu);
    let mut x = store.root().var("x", &[3], Init::Const(1.));
    finite.check_weights(&store, 1, "").expect("finite");
    tch::no_grad(|| drop(x.fill_(f64::NAN)));
    assert!(finite.check_weights(&store, 1, "").is_err());
}

#[test]
fn a_log_is_cut_back_to_what_the_checkpoint_knew() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("log.jsonl");
    let mut log = Log::open(&path, Some(&Mark::default())).expect("open");
    log.line(&json!({"step": 0})).expect("written");
    let known = log.sync().expect("synced");
    log.line(&json!({"step": 1})).expect("written");
    drop(log);
    let mut log = Log::open(&path, Some(&known)).expect("open again");
    log.line(&json!({"step": 9})).expect("written");
    let known = log.sync().expect("synced");
    drop(log);
    let whole = "{\"step\":0}\n{\"step\":9}\n";
    assert_eq!(std::fs::read_to_string(&path).expect("text"), whole);
    // Cut, and edited at equal length: refused, and left as it is.
    for edited in ["{\"step\":0}\n", "{\"step\":1}\n{\"step\":9}\n", "{\"step\":0}\n{\"step\":8}\nmore"] {
        std::fs::write(&path, edited).expect("edited");
        let error = Log::open(&path, Some(&known)).expect_err("not what was known");
        assert!(error.to_string().contains("log.jsonl"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), edited);
    }
    std::fs::write(&path, whole).expect("restored");
    Log::open(&path, Some(&known)).expect("whole");
}

/// What a kill left half goes when the next line comes; what is damaged is left out where it is shown.
#[test]
fn lines_that_are_half_there_or_damaged_are_no_lines() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("timing.jsonl");
    std::fs::write(&path, "{\"step\":0}\n{\"st").expect("written");
    Log::open(&path, None).expect("open").line(&json!({"step": 1})).expect("written");
    let whole = "{\"step\":0}\n{\"step\":1}\n";
    assert_eq!(std::fs::read_to_string(&path).expect("text"), whole);
    std::fs::write(&path, format!("{{\"stup\":\n7\n{whole}{{\"step\": 2}}")).expect("damaged");
    assert_eq!(history::lines(&path).expect("read"), [json!({"step": 0}), json!({"step": 1})]);
}

#[test]
fn two_processes_cannot_write_one_run() {
    let place = tempfile::tempdir().expect("a folder");
    let first = RunFolder::open(place.path()).expect("first");
    let error = RunFolder::open(place.path()).expect_err("second");
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    RunFolder::open(place.path()).expect("free again");
    // Who only looks holds it for an instant.
    let lock = std::fs::File::open(place.path().join(".lock")).expect("a lock");
    lock.lock_shared().expect("locked");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| RunFolder::open(place.path()).map(drop));
        lock.unlock().expect("unlocked");
        second.join().expect("joined").expect("waits");
    });
}

#[test]
fn an_atomic_write_that_fails_leaves_the_old_file() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("x");
    write_atomic(&path, b"old").expect("written");
    let full = atomically(&path, |draft| -> anyhow::Result<()> {
        std::fs::write(draft, b"half")?;
        anyhow::bail!("the disk is full")
    });
    assert!(format!("{:#}", full.expect_err("full")).contains("full"));
    assert_eq!(std::fs::read(&path).expect("kept"), b"old");
    assert_eq!(std::fs::read_dir(place.path()).expect("folder").count(), 1);
}

#[test]
fn configurations_come_back_and_differences_are_named() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug, Clone)]
    struct Flags {
        lr: f64,
        log_every: u64,
        weights: Option<String>,
    }
    let place = tempfile::tempdir().expect("a folder");
    let flags = Flags { lr: 3e-4, log_every: 10, weights: None };
    let config = |flags: &Flags, paper: &str| {
        Config::new(paper, hyper::flags(flags), Value::Null, "cpu").expect("a configuration")
    };
    assert!(!config(&flags, "p").write_or_match(place.path()).expect("new"));
    assert!(config(&flags, "p").write_or_match(place.path()).expect("the same"));
    assert_eq!(hyper::from_flags::<Flags>(&Config::read(place.path()).expect("read").flags).expect("flags"), flags);
    let changed = Flags { log_every: 20, weights: Some("w".into()), ..flags.clone() };
    let error = config(&changed, "p").write_or_match(place.path()).expect_err("changed").to_string();
    assert!(
        error.contains("--log-every (was 10, now 20)") && error.contains("--weights (was not given, now w)"),
        "{error}"
    );
    assert!(!error.contains("--lr"));
    assert!(
        config(&flags, "q").write_or_match(place.path()).expect_err("other paper").to_string().contains("run of p")
    );
    std::fs::write(place.path().join("config.json"), "{").expect("damaged");
    assert!(Config::read(place.path()).expect_err("damaged").to_string().contains("config.json"));
    std::fs::remove_file(place.path().join("config.json")).expect("removed");
    std::fs::write(place.path().join(checkpoint::NEWEST), "there").expect("a checkpoint");
    let error = config(&flags, "p").write_or_match(place.path()).expect_err("no configuration").to_string();
    assert!(error.contains("no config.json"), "{error}");
}

#[test]
fn checkpoints_keep_the_one_before() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = RunFolder::open(place.path()).expect("open");
    let mut store = VarStore::new(Device::Cpu);
    let x = (store.root() / "part").var("x", &[3], Init::Const(1.));
    let mut optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    let config = Config::new("p", hyper::flags(&json!({"lr": 0.1})), Value::Null, "cpu").expect("a configuration");
    let mined = Tensor::from_slice(&[4_i64, 5]);
    for step in 1..=3 {
        optimizer.zero_grad();
        x.square().sum(Kind::Float).backward();
        optimizer.step(0.1, 0.9);
        let progress = Progress::new(step, Mark::default(), "{}".into(), &config);
        checkpoint::save(&folder, &store, &optimizer, &[("mined".into(), mined.shallow_clone())], &progress)
            .expect("saved");
    }
    let saved = x.copy();
    tch::no_grad(|| drop(x.shallow_clone().fill_(0.)));
    let mut other = Optimizer::new(Rule::ADAM, 0., &store);
    let loaded = checkpoint::load(place.path(), &config, &mut store, Some(&mut other)).expect("loads").expect("there");
    assert_eq!((loaded.progress.step, loaded.progress.log, loaded.note), (3, Mark::default(), None));
    assert!(x.equal(&saved) && loaded.extra["mined"].equal(&mined));
    for ((a, x), (b, y)) in optimizer.state().into_iter().zip(other.state()) {
        assert!(a == b && x.equal(&y), "{a}");
    }
    // Every single truncation of the newest falls back to the one before, whole.
    let newest = place.path().join(checkpoint::NEWEST);
    let whole = std::fs::read(&newest).expect("bytes");
    for cut in (0..whole.len()).step_by(7) {
        std::fs::write(&newest, &whole[..cut]).expect("cut");
        let loaded =
            checkpoint::load(place.path(), &config, &mut store, Some(&mut other)).expect("falls back").expect("there");
        assert_eq!(loaded.progress.step, 2);
        assert!(loaded.note.is_some_and(|note| note.contains("step 2")));
        // Who goes on has put it aside, so that the next one does not push out the one before.
        assert!(!newest.exists() && std::fs::read(place.path().join("checkpoint.damaged.safetensors")).is_ok());
    }
    let nowhere = tempfile::tempdir().expect("a folder");
    assert!(checkpoint::load(nowhere.path(), &config, &mut store, None).expect("none").is_none());
    // Other flags than the checkpoint's are refused, not taken for damage.
    std::fs::write(&newest, &whole).expect("whole again");
    let other = Config::new("p", hyper::flags(&json!({"lr": 0.2})), Value::Null, "cpu").expect("a configuration");
    let error = checkpoint::load(place.path(), &other, &mut store, None).expect_err("refused").to_string();
    assert!(error.contains("other flags") && error.contains("config.json"), "{error}");
    // Another network is refused by name.
    let mut wider = VarStore::new(Device::Cpu);
    let _x = (wider.root() / "part").var("x", &[4], Init::Const(1.));
    std::fs::write(&newest, &whole).expect("whole again");
    let error = format!("{:#}", checkpoint::load(place.path(), &config, &mut wider, None).expect_err("refused"));
    assert!(error.contains("part.x") && error.contains("[3]"), "{error}");
}

#[test]
fn devices_that_are_not_there_are_errors() {
    assert_eq!(device::resolve("cpu").expect("cpu").0, Device::Cpu);
    for wish in ["cuda:99", "gpu", "", "cuda:x"] {
        let error = device::resolve(wish).expect_err(wish).to_string();
        assert!(error.contains("--device"), "{error}");
    }
    if !tch::Cuda::is_available() {
        assert!(device::resolve("cuda").is_err());
        println!("skipped: no CUDA device here to resolve");
    } else {
        assert_eq!(device::resolve("cuda").expect("cuda").0, Device::Cuda(0));
    }
}

#[test]
fn autocast_is_bfloat16_within_and_gone_after() {
    let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
    assert_eq!(autocast(true, Device::Cpu, || x.matmul(&x)).kind(), Kind::BFloat16);
    assert_eq!(autocast(false, Device::Cpu, || x.matmul(&x)).kind(), Kind::Float);
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| autocast(true, Device::Cpu, || panic!("inside"))));
    assert!(panicked.is_err());
    assert_eq!(x.matmul(&x).kind(), Kind::Float, "left also by a panic");
}

#[test]
fn batch_statistics_are_the_sorted_distances() {
    let x = crate::common::matrix(60, 9, 4);
    let d = rankle::distance::Metric::Euclidean.matrix(&x, &x);
    let said = stats::batch(&x, rankle::distance::Metric::Euclidean);
    let mut all: Vec<f64> = Vec::new();
    let rows = crate::common::rows(&d);
    (0..9).for_each(|i| (0..9).filter(|j| *j != i).for_each(|j| all.push(rows[i][j])));
    all.sort_by(f64::total_cmp);
    let bins: Vec<i64> = serde_json::from_value(said["distance"]["bins"].clone()).expect("counts");
    assert_eq!((bins.len(), bins.iter().sum::<i64>()), (20, 72));
    for (name, at) in [("p0", 0), ("p5", 4), ("p50", 36), ("p95", 67), ("p100", 71)] {
        assert!((said["distance"][name].as_f64().expect("a number") - all[at]).abs() < 1e-6, "{name}");
    }
    let norms = x.square().sum_dim_intlist(1, false, None::<Kind>).sqrt();
    assert!((said["norm"]["mean"].as_f64().expect("a number") - value(&norms.mean(Kind::Double))).abs() < 1e-6);
    let one = Tensor::ones([1, 4], (Kind::Float, Device::Cpu));
    assert!(stats::batch(&one, rankle::distance::Metric::Euclidean)["distance"]["p50"].is_null());
}

#[test]
fn a_run_knows_its_training_photos_by_name_and_size() {
    let dir = tempfile::TempDir::new().expect("a temporary folder");
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
        photos.compare(dir.path()).map(|()| photos.write(dir.path()).expect("written")).map_err(|e| format!("{e:#}"))
    };
    assert!(compared(&names).expect_err("no list").contains("photos.csv.gz: restore it"));
    assert!(Photos::of(vec![]).compare(dir.path()).is_ok(), "drawn data have none");
    photos(&names, "cat").write(dir.path()).expect("written");
    let error = format!("{:#}", photos(&names, "dog").compare(dir.path()).expect_err("other labels"));
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
    assert!(compared(&names[1..]).expect_err("one is gone").contains("1 removed (a,b.png)"));
    assert_eq!(compared(&names), Ok(()), "an older list");
    assert!(photos(&names, "dog").compare(dir.path()).is_err(), "a newer one again");
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
    let whole = std::fs::read(&list).expect("a list");
    std::fs::write(&list, &whole[..whole.len() / 2]).expect("written");
    let error = compared(&names).expect_err("damaged");
    assert!(error.contains("photos.csv.gz: restore it"), "{error}");
    // Of what is no file the content decides, and its lack of a time says nothing of the photos'.
    let with_rows = |content: &[u8]| {
        let rows = vec![read(&"a,b.png", ""), Read::hashed("row 1", content), Read::hashed("row 2", b"")];
        Photos::of(rows)
    };
    with_rows(b"1 2").write(dir.path()).expect("written");
    touch("a,b.png", 10);
    with_rows(b"1 2").compare(dir.path()).expect("a copy");
    let error = format!("{:#}", with_rows(b"1 3").compare(dir.path()).expect_err("edited"));
    assert!(error.contains(": 1 of other labels or content (row 1):"), "{error}");
}
