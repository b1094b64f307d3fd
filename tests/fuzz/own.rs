//! What runs and verbs keep for themselves, as a hand or a bad disk may have changed it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use flate2::{Compression, write::GzEncoder};
use image::RgbImage;
use rankle::datasets::{Photo, Source};
use rankle::optim::{Optimizer, Rule};
use rankle::run::checkpoint::{self, NEWEST, Progress};
use rankle::run::config::Config;
use rankle::run::folder::{Mark, RunFolder};
use rankle::run::history;
use rankle::run::photos::{Of, Photos, Read};
use rankle::say::Bar;
use rankle::tasks::faces::CropFlags;
use rankle::tasks::kept::Kept;
use rankle::tasks::{Brought, Rows};
use rankle::{files, lists, outputs, weights};
use serde_json::{Value, json};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use super::Target;

/// With the hash that its other bytes have, where a file of ours has one: what is read behind that is met too.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = 8 + format!(r#"{{"__metadata__":{{"{}":""#, weights::HASH).len();
    let place = at..at + files::UNKNOWN.len();
    if bytes.len() >= place.end {
        bytes[place.clone()].copy_from_slice(files::UNKNOWN.as_bytes());
        let own = blake3::hash(&bytes).to_hex();
        bytes[place].copy_from_slice(own.as_bytes());
    }
    bytes
}

fn gzip(bytes: Vec<u8>) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&bytes).expect("packed");
    packed.finish().expect("packed")
}

fn config() -> Config {
    serde_json::from_value(json!({"paper": "p", "flags": {}, "machine": {"rankle": "0"}, "argv": []})).expect("one")
}

fn network() -> (VarStore, Optimizer) {
    let store = VarStore::new(Device::Cpu);
    let _x = store.root().var("x", &[3], Init::Const(1.));
    let optimizer = Optimizer::new(Rule::ADAM, 0., &store);
    (store, optimizer)
}

fn a_checkpoint() -> Vec<u8> {
    let (place, (store, mut optimizer)) = (tempfile::tempdir().expect("a folder"), network());
    store.variables()["x"].square().sum(Kind::Float).backward();
    optimizer.step(0.1, 0.9);
    let (folder, progress) =
        (RunFolder::open(place.path()).expect("open"), Progress::new(1, Mark::default(), "{}".into(), &config()));
    let mined = [("mined".to_string(), Tensor::from_slice(&[4_i64, 5]))];
    checkpoint::save(&folder, &store, &optimizer, &mined, &progress).expect("saved");
    fs::read(folder.file(NEWEST)).expect("there")
}

/// Where the rows of a photo that is no file are kept.
fn kept(folder: &Path) -> Kept {
    Kept { folder: folder.into(), ..Kept::default() }
}

/// They, or what `work` says of it where there are none.
fn rows(folder: &Path, work: &dyn Fn(Vec<Photo>, &mut Bar) -> Result<Rows>) -> Result<Rows> {
    let photo = Photo::new(Source::Memory(Arc::new(RgbImage::new(2, 2))), "a".into(), -1, 1);
    let brought = Brought { photos: vec![photo], kept: Some(kept(folder)), ..Brought::default() };
    brought.rows(false, &|photo| photo.source.image(), 1, work)
}

fn a_piece() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let work = |photos: Vec<Photo>, _: &mut Bar| {
        let x = Tensor::ones([1, 2], (Kind::Float, Device::Cpu));
        Ok(Rows { tensors: vec![("x".into(), x)], ..Rows::of(photos) })
    };
    rows(folder.path(), &work).expect("kept");
    let mut files = fs::read_dir(kept(folder.path()).at()).expect("a folder").flatten();
    fs::read(files.next().expect("a piece").path()).expect("there")
}

fn read_checkpoint(folder: &Path) -> Result<()> {
    drop(checkpoint::fingerprints(folder));
    let (mut store, mut optimizer) = network();
    checkpoint::load(folder, &config(), &mut store, Some(&mut optimizer)).map(drop)
}

fn read_piece(folder: &Path) -> Result<()> {
    let at = kept(folder).at();
    fs::create_dir_all(&at)?;
    fs::copy(folder.join("x.safetensors"), at.join("x.safetensors"))?;
    rows(folder, &|_, _| bail!("it is asked for again")).map(drop)
}

fn read_photos(folder: &Path) -> Result<()> {
    let read = |name: &str| Read { name: name.into(), of: Of::List, known: "cat".into() };
    Photos::of(["a.png", "b\"c.png"].map(read), folder, &|| ()).compare(folder, false).map(drop)
}

fn read_links(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("person-0001"))?;
    let _ = symlink("/nowhere", folder.join("person-0001/1-a"));
    outputs::links_of(folder).map(drop)
}

const FACES: &str = r#"{"crops":"margin14","detector":"0","images":"/a"}"#;

fn of(name: &'static str, file: &'static str, text: &str, read: fn(&Path) -> Result<()>) -> Target {
    Target::new(name, vec![(file, text.as_bytes().to_vec())], read)
}

pub fn targets() -> Vec<Target> {
    let photos = "name,bytes,changed,known\na.png,0,0,cat\n\"b\"\"c.png\",0,0,cat\n";
    let marks = [[1., 1.], [2., 1.], [1.5, 2.], [1., 3.], [2., 3.]];
    let face = json!({"box": [1., 1., 5., 6.], "probability": 0.9, "landmarks": marks});
    let line = json!({"photo": "a.jpg", "bytes": 9, "size": [9, 7], "faces": [face], "chosen": 0, "crop": "a.png"});
    let scores = json!({"paper": "facenet", "scores": {"accuracy": 0.5}, "checkpoints": []});
    let packed = gzip(photos.into());
    vec![
        Target::new("checkpoint", vec![(NEWEST, a_checkpoint())], read_checkpoint),
        Target { pack: sealed, ..Target::new("checkpoint, sealed", vec![(NEWEST, a_checkpoint())], read_checkpoint) },
        Target { pack: sealed, ..Target::new("kept rows, sealed", vec![("x.safetensors", a_piece())], read_piece) },
        Target::new("photos.csv.gz", vec![("photos.csv.gz", packed)], read_photos),
        Target { pack: gzip, ..of("photos.csv in a sound gzip", "photos.csv.gz", photos, read_photos) },
        of("log.jsonl", "log.jsonl", "{\"step\":0,\"loss\":0.5}\n{\"step\":1,\"loss\":null}\n", |folder| {
            history::lines(&folder.join("log.jsonl")).map(drop)
        }),
        of("faces.jsonl", "faces.jsonl", &format!("{FACES}\n{line}\n"), |folder| {
            CropFlags::opened(folder, FACES).map(drop)
        }),
        of("split.json", "split.json", r#"{"data": "x", "split": NaN, "train": ["a"], "test": ["b"]}"#, |folder| {
            lists::json::<Value>(&folder.join("split.json")).map(drop)
        }),
        of("results.json", "results.json", &outputs::json_text("scores", &scores).expect("JSON"), |folder| {
            outputs::read_sealed(&folder.join("results.json")).map(drop)
        }),
        // Without a hash, as an older version wrote them.
        of(
            "links.json",
            "links.json",
            r#"{"made_by": "rankle links.json", "links": {"person-0001/1-a": "/nowhere"}}"#,
            read_links,
        ),
    ]
}
