//! Tables 3, 4 and 5: networks, image quality, embedding width, each the paper's beside ours.

use super::flags::{Reproduce, Scale};
use super::*;
use rankle::run::report::Table;
use rankle::transform::View;

/// Trains what the table compares, each in its own resumable run folder, and prints it beside the paper's.
pub fn reproduce(table: u8, args: &Reproduce, machine: &Machine) -> Result<()> {
    let root = args.run.clone().unwrap_or_else(|| {
        let data =
            Path::new(&args.hyper.data).file_name().map_or_else(|| "data".into(), |n| n.to_string_lossy().to_string());
        Path::new("data/runs/facenet").join(format!("table{table}-{data}-{}", args.hyper.seed))
    });
    match table {
        3 => networks(args, &root, machine),
        4 => quality(args, &root, machine),
        _ => widths(args, &root, machine),
    }
}

/// Trains a run of these flags below `root`.
fn trained(h: &Hyper, at: &Path, machine: &Machine) -> Result<(FaceSet, VarStore, Box<dyn Network>)> {
    let set = open(h, true)?;
    ensure!(!set.test.is_empty(), "{} has no test faces: say --test DIR", h.data);
    let (store, net) = train(h, &set, at, machine)?;
    Ok((set, store, net))
}

/// The scores that the tables show: VAL over all pairs with its standard error over five splits, accuracy on pairs.
fn cells(set: &FaceSet, x: &Tensor, args: &Reproduce, seed: u64) -> Result<(Vec<String>, Value)> {
    let far = args.scoring.far;
    // Neither recognised nor clustered: the tables have neither.
    let uses = faces::Uses { enrolled: Vec::new(), neighbours: Vec::new(), clustered: 0, ..args.scoring.uses(seed) };
    let used = faces::uses(set, x, None, &uses);
    let score = |name: String| used.scores.iter().find(|(known, _)| *known == name).map(|(_, score)| *score);
    let val = score(format!("all pairs VAL at FAR {far}"));
    let sem = score("five splits VAL SEM".into());
    let accuracy = match set.pairs.is_empty() {
        true => None,
        false => Some(faces::judge(set, x, args.scoring.variant, far)?.folds.mean),
    };
    let percent = |x: Option<f64>| x.map_or("–".to_string(), |x| format!("{:.1}", 100. * x));
    let val_cell = match sem {
        Some(_) => format!("{} ± {}", percent(val), percent(sem)),
        None => percent(val),
    };
    Ok((vec![val_cell, percent(accuracy)], json!({"VAL": val, "VAL_SEM": sem, "accuracy": accuracy})))
}

fn finish(
    title: &str,
    head: [&str; 4],
    rows: Vec<Vec<String>>,
    json_rows: Vec<Value>,
    h: &Hyper,
    root: &Path,
) -> Result<()> {
    print(title)?;
    print(Table { head: head.map(String::from).to_vec(), rows })?;
    print(format!(
        "Not comparable with the paper: its hold-out is private, and this run departs from its recipe ({}).",
        h.departures().join("; ")
    ))?;
    let path = root.join("table.json");
    let value = json!({"title": title, "rows": json_rows, "flags": h});
    std::fs::create_dir_all(root).with_context(|| format!("cannot write {}", root.display()))?;
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    print(format!("results: {}", path.display()))
}

/// Table 3: the choice of network.
fn networks(args: &Reproduce, root: &Path, machine: &Machine) -> Result<()> {
    if args.hyper.net.is_some() || args.hyper.size.is_some() {
        bail!("--table 3 goes through the networks and their sizes: leave --net and --size out");
    }
    let drawn = args.hyper.is_drawn();
    let (mut rows, mut json_rows, mut last) = (Vec::new(), Vec::new(), None);
    for (place, net) in [Net::Nn1, Net::Nn2, Net::Nn3, Net::Nn4].into_iter().enumerate() {
        let mut flags = args.hyper.clone();
        flags.net = Some(net);
        if drawn {
            // A fraction of the channels and pixels, the sizes still in the paper's order.
            flags.size = Some([56, 56, 40, 32][place]);
            flags.shrink = flags.shrink.or(Some(8));
            flags.batch_norm = true;
            flags.steps = flags.steps.or(Some(40));
        }
        let h = flags.resolve(if drawn { Scale::Drawn } else { Scale::Paper }, machine)?;
        say(format!("{} at {} pixels", h.net.name(), h.size));
        let (set, _store, network) = trained(&h, &root.join(h.net.name()), machine)?;
        let x = embed_test(&h, &set, &*network, args.scoring.variant, machine)?;
        let (mut ours, value) = cells(&set, &x, args, h.seed)?;
        let (name, val, sem) = published::TABLE_3[place];
        let mut row = vec![format!("{name} (here {} pixels)", h.size), format!("{val:.1} ± {sem:.1}")];
        row.append(&mut ours);
        rows.push(row);
        json_rows.push(json!({"network": name, "paper": val, "paper_SEM": sem, "size": h.size, "ours": value}));
        last = Some(h);
    }
    for (name, val, sem) in &published::TABLE_3[4..] {
        rows.push(vec![name.to_string(), format!("{val:.1} ± {sem:.1}"), "layers unpublished".into(), "–".into()]);
    }
    let h = last.context("no network")?;
    let head = ["network", "paper: VAL at FAR 1e-3", "ours: VAL, all pairs", "ours: accuracy"];
    finish("Table 3: network choice", head, rows, json_rows, &h, root)
}

/// Table 4: JPEG quality and image size of the test faces, under one network.
fn quality(args: &Reproduce, root: &Path, machine: &Machine) -> Result<()> {
    let h = args.hyper.resolve(args.hyper.scale(), machine)?;
    let (set, _store, network) = trained(&h, &root.join(h.net.name()), machine)?;
    let (mut rows, mut json_rows) = (Vec::new(), Vec::new());
    let jpeg = published::TABLE_4_JPEG
        .map(|(quality, val)| (format!("JPEG quality {quality}"), val, View { jpeg: Some(quality), ..View::WHOLE }));
    let sizes = published::TABLE_4_PIXELS.map(|(side, val)| {
        (format!("{} pixels ({side}x{side})", side * side), val, View { side: Some(side), ..View::WHOLE })
    });
    for (name, val, view) in jpeg.into_iter().chain(sizes) {
        let seen = FaceSet { train: Vec::new(), ..set.clone() }.through(view);
        let x = embed_test(&h, &seen, &*network, args.scoring.variant, machine)?;
        let (mut ours, value) = cells(&seen, &x, args, h.seed)?;
        let mut row = vec![name.clone(), format!("{val:.1}")];
        row.append(&mut ours);
        rows.push(row);
        json_rows.push(json!({"degradation": name, "paper": val, "ours": value}));
    }
    let head = ["test images", "paper: VAL at FAR 1e-3", "ours: VAL, all pairs", "ours: accuracy"];
    finish("Table 4: image quality (JPEG, then number of pixels)", head, rows, json_rows, &h, root)
}

/// Table 5: the embedding's width.
fn widths(args: &Reproduce, root: &Path, machine: &Machine) -> Result<()> {
    if args.hyper.width.is_some() {
        bail!("--table 5 goes through the widths: leave --width out");
    }
    let (mut rows, mut json_rows, mut last) = (Vec::new(), Vec::new(), None);
    for (width, val, sem) in published::TABLE_5 {
        let mut flags = args.hyper.clone();
        flags.width = Some(width);
        let h = flags.resolve(flags.scale(), machine)?;
        say(format!("embedding width {width}"));
        let (set, _store, network) = trained(&h, &root.join(format!("width-{width}")), machine)?;
        let x = embed_test(&h, &set, &*network, args.scoring.variant, machine)?;
        let (mut ours, value) = cells(&set, &x, args, h.seed)?;
        let mut row = vec![width.to_string(), format!("{val:.1} ± {sem:.1}")];
        row.append(&mut ours);
        rows.push(row);
        json_rows.push(json!({"width": width, "paper": val, "paper_SEM": sem, "ours": value}));
        last = Some(h);
    }
    let h = last.context("no width")?;
    let head = ["width", "paper: VAL at FAR 1e-3", "ours: VAL, all pairs", "ours: accuracy"];
    finish("Table 5: embedding width", head, rows, json_rows, &h, root)
}
