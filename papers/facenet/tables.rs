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

/// The scores that the tables show: VAL as the mean over five splits of the test people with its standard error (over
/// all pairs at once where the set is too small for five), accuracy on pairs.
fn cells(set: &FaceSet, x: &Tensor, args: &Reproduce, seed: u64) -> Result<(Vec<String>, Value)> {
    let far = args.scoring.far;
    // Neither recognised nor clustered: the tables have neither.
    let uses = faces::Uses { enrolled: Vec::new(), neighbours: Vec::new(), clustered: 0, ..args.scoring.uses(seed) };
    let used = faces::uses(set, &faces::centred(x, args.scoring.variant), None, &uses);
    let score = |name: String| used.scores.iter().find(|(known, _)| *known == name).map(|(_, score)| *score);
    let all = score(format!("all pairs VAL at FAR {far}"));
    let split = score(format!("five splits VAL at FAR {far}")).zip(score("five splits VAL SEM".into()));
    let accuracy = match set.pairs.is_empty() {
        true => None,
        false => Some(faces::judge(set, x, args.scoring.variant, far)?.folds.mean),
    };
    let percent = |x: Option<f64>| x.map_or("–".to_string(), |x| format!("{:.1}", 100. * x));
    let val_cell = match split {
        Some((val, sem)) => format!("{} ± {}", percent(Some(val)), percent(Some(sem))),
        None => format!("{} (all pairs)", percent(all)),
    };
    let (val, sem) = split.unzip();
    let value = json!({"VAL_all_pairs": all, "VAL_five_splits": val, "VAL_SEM": sem, "accuracy": accuracy});
    Ok((vec![val_cell, percent(accuracy)], value))
}

/// Prints a table of the runs `runs`, with what all of them depart in from the paper, and writes it as JSON.
fn finish(
    title: &str,
    head: [String; 4],
    rows: Vec<Vec<String>>,
    json_rows: Vec<Value>,
    runs: &[Hyper],
    args: &Reproduce,
    root: &Path,
) -> Result<()> {
    print(title)?;
    print(Table { head: head.to_vec(), rows })?;
    let each: Vec<Vec<String>> = runs.iter().map(Hyper::departures).collect();
    let common: Vec<String> =
        each[0].iter().filter(|text| each.iter().all(|list| list.contains(text))).cloned().collect();
    print("Not comparable with the paper: its hold-out is private, and these runs depart from its recipe:")?;
    for text in common.iter().chain(&args.scoring.departures()) {
        print(format!("  {text}"))?;
    }
    let path = root.join("table.json");
    let flags: Vec<Value> = runs.iter().zip(&each).map(|(h, list)| json!({"flags": h, "departures": list})).collect();
    let value = json!({"title": title, "rows": json_rows, "runs": flags, "evaluation": args.scoring.departures()});
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
    let (mut rows, mut json_rows, mut runs) = (Vec::new(), Vec::new(), Vec::new());
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
        runs.push(h);
    }
    for (name, val, sem) in &published::TABLE_3[4..] {
        rows.push(vec![name.to_string(), format!("{val:.1} ± {sem:.1}"), "layers unpublished".into(), "–".into()]);
    }
    let head = head("network", "paper", "ours", args.scoring.far);
    finish("Table 3: network choice", head, rows, json_rows, &runs, args, root)
}

/// Table 4: JPEG quality and image size of the test faces, under one network.
fn quality(args: &Reproduce, root: &Path, machine: &Machine) -> Result<()> {
    let h = of_nn1(args).resolve(args.hyper.scale(), machine)?;
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
    let head = head("test images", "paper, NN1", &format!("ours, {}", h.net.name()), args.scoring.far);
    finish("Table 4: image quality (JPEG, then number of pixels)", head, rows, json_rows, &[h], args, root)
}

/// The network of Tables 4 and 5 where none was asked for: the paper's NN1, or the drawn set's small one.
fn of_nn1(args: &Reproduce) -> flags::Flags {
    let mut flags = args.hyper.clone();
    if !flags.is_drawn() {
        flags.net = flags.net.or(Some(Net::Nn1));
    }
    flags
}

/// Column heads: whose numbers, and what they are.
fn head(what: &str, paper: &str, ours: &str, far: f64) -> [String; 4] {
    [
        what.into(),
        format!("{paper}: VAL at FAR 0.001"),
        format!("{ours}: VAL at FAR {far}, five splits"),
        format!("{ours}: accuracy"),
    ]
}

/// Table 5: the embedding's width.
fn widths(args: &Reproduce, root: &Path, machine: &Machine) -> Result<()> {
    if args.hyper.width.is_some() {
        bail!("--table 5 goes through the widths: leave --width out");
    }
    let (mut rows, mut json_rows, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for (width, val, sem) in published::TABLE_5 {
        let mut flags = of_nn1(args);
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
        runs.push(h);
    }
    let name = runs.first().map_or_else(String::new, |h: &Hyper| h.net.name());
    let head = head("width", "paper, NN1", &format!("ours, {name}"), args.scoring.far);
    finish("Table 5: embedding width", head, rows, json_rows, &runs, args, root)
}
