//! LFW's setting "unrestricted, no outside data": for each fold a network that has seen faces of the other folds only.
//!
//! A network's threshold must come from people whom it has not seen, and from the nine folds that it may use. So eight
//! folds train, and the ninth, the one after the fold that is judged, sets the thresholds: the best one on its 600 pairs
//! for the accuracy, and for VAL the one at the wished FAR over all pairs of its images.

use super::flags::{Reproduce, Scale};
use super::*;
use rankle::metrics::all_pairs::AllPairs;
use rankle::metrics::verification::{self, Folds};
use rankle::run::report::Table;

/// What one fold's network reached.
#[derive(Debug, Serialize)]
struct Fold {
    fold: usize,
    trained_on_people: usize,
    trained_on_images: usize,
    threshold: f64,
    accuracy: f64,
    auc: f64,
    eer: f64,
    val: f64,
    far: f64,
    untrained_accuracy: f64,
    run: String,
    #[serde(skip)]
    dist: Vec<f64>,
    #[serde(skip)]
    same: Vec<bool>,
}

/// Rows of the pairs of a fold (from 0).
fn span(set: &FaceSet, fold: usize) -> std::ops::Range<usize> {
    let each = set.pairs.len() / set.folds;
    fold * each..(fold + 1) * each
}

/// The test photos that the pairs of a fold name, and nobody's outside it.
fn rows_of(set: &FaceSet, fold: usize) -> Vec<usize> {
    let rows = set.pairs[span(set, fold)].iter().flat_map(|pair| [pair.left, pair.right]);
    rows.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// The set of a fold: trained on all images of the people of the others but the next, tested on all pairs.
fn set_of(set: &FaceSet, fold: usize) -> Result<FaceSet> {
    let aside = [fold, (fold + 1) % set.folds];
    let people_of = |fold: usize| -> std::collections::BTreeSet<i64> {
        rows_of(set, fold).into_iter().map(|row| set.test[row].person).collect()
    };
    let held: std::collections::BTreeSet<i64> = aside.into_iter().flat_map(people_of).collect();
    let known: std::collections::BTreeSet<i64> =
        (0..set.folds).filter(|other| !aside.contains(other)).flat_map(people_of).collect();
    if let Some(person) = known.intersection(&held).next() {
        bail!(
            "{}: {} is in more than one fold: without outside data, people of different folds must differ",
            set.name,
            set.people[*person as usize - 1]
        );
    }
    // People whom no pair names have no fold; they stay out.
    let train = set.test.iter().filter(|photo| known.contains(&photo.person)).cloned().collect();
    Ok(FaceSet { train, name: format!("{} without fold {}", set.name, fold + 1), ..set.clone() })
}

/// Trains and judges a network for each wished fold, and prints them beside the baselines over all folds.
pub fn reproduce(args: &Reproduce, machine: &Machine) -> Result<()> {
    let drawn = args.hyper.is_drawn();
    ensure!(args.hyper.test.is_none(), "--protocol lfw-no-outside-data trains on its own folds: leave --test out");
    if args.scoring.variant.centres() {
        bail!("--variant {}: this protocol takes plain or flip-averaged", args.scoring.variant.name());
    }
    let mut flags = args.hyper.clone();
    if flags.data == "data/casia-webface" {
        flags.data = "data/lfw".into();
    }
    let h = flags.resolve(if drawn { Scale::Drawn } else { Scale::Paper }, machine)?;
    let set = open_named(&h.data)?;
    ensure!(!set.pairs.is_empty() && set.folds >= 3, "{} has no pairs.txt with three folds or more", h.data);
    ensure!(
        set.layout != datasets::faces::FaceLayout::YoutubeFaces,
        "{}: this protocol is for pairs of images",
        h.data
    );
    check(set.test.iter())?;
    let set = h.seen(set);
    let wished: Vec<usize> = if args.folds.is_empty() { (1..=set.folds).collect() } else { args.folds.clone() };
    if let Some(bad) = wished.iter().find(|fold| !(1..=set.folds).contains(*fold)) {
        bail!("--folds {bad}: {} has folds 1 to {}", set.name, set.folds);
    }
    let root = args.run.clone().unwrap_or_else(|| {
        let folder = h.folder();
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        folder.with_file_name(format!("no-outside-data-{name}"))
    });
    let mut done = Vec::new();
    for &fold in &wished {
        let h = Hyper { fold: Some(fold), ..h.clone() };
        done.push(one(&h, &set, fold - 1, &root.join(format!("fold-{fold:02}")), args, machine)?);
    }
    show(&h, &set, &done, &root, args)
}

/// A network's distances on the pairs of its fold, its thresholds being those of the next.
struct Unseen {
    dist: Vec<f64>,
    same: Vec<bool>,
    threshold: f64,
    val: f64,
    far: f64,
}

fn one(h: &Hyper, set: &FaceSet, fold: usize, at: &Path, args: &Reproduce, machine: &Machine) -> Result<Fold> {
    say(format!("fold {} of {}", fold + 1, set.folds));
    let mine = set_of(set, fold)?.pruned(h.min_images)?;
    let (_store, net) = train(h, &mine, at, machine)?;
    let wished = args.scoring.far;
    let next = (fold + 1) % set.folds;
    let judged = |net: &dyn Network| -> Result<Unseen> {
        // Only the two folds that the network has not seen.
        let rows: Vec<usize> = rows_of(set, fold).into_iter().chain(rows_of(set, next)).collect();
        let photos: Vec<Photo> = rows.iter().map(|&row| set.test[row].clone()).collect();
        let small = FaceSet { test: photos, ..FaceSet::default() };
        let x = embed_test(h, &small, net, args.scoring.variant, machine)?;
        let place: std::collections::BTreeMap<usize, i64> = rows.iter().copied().zip(0..).collect();
        let pairs = |fold: usize| -> (Vec<f64>, Vec<bool>) {
            let pairs = &set.pairs[span(set, fold)];
            let side = |pick: fn(&datasets::faces::Pair) -> usize| {
                x.index_select(0, &Tensor::from_slice(&pairs.iter().map(|pair| place[&pick(pair)]).collect::<Vec<_>>()))
            };
            let d = Metric::SquaredEuclidean.paired(&side(|p| p.left), &side(|p| p.right)).to_kind(Kind::Double);
            (Vec::try_from(d).unwrap_or_default(), pairs.iter().map(|pair| pair.same).collect())
        };
        let (calibration, calibration_same) = pairs(next);
        let threshold = verification::best_threshold(&calibration, &calibration_same);
        let theirs: Vec<i64> = rows_of(set, next).iter().map(|row| place[row]).collect();
        let who: Vec<i64> = rows_of(set, next).iter().map(|&row| set.test[row].person).collect();
        let strict = AllPairs::new(&x.index_select(0, &Tensor::from_slice(&theirs)), &who).val_at_far(wished).threshold;
        let (dist, same) = pairs(fold);
        let rate = |kind: bool| {
            let of: Vec<f64> = dist.iter().zip(&same).filter(|(_, s)| **s == kind).map(|(d, _)| *d).collect();
            of.iter().filter(|d| **d < strict).count() as f64 / of.len() as f64
        };
        let (val, far) = (rate(true), rate(false));
        Ok(Unseen { dist, same, threshold, val, far })
    };
    let store = VarStore::new(machine.device);
    let untrained = network(h, &store)?;
    start_from(h, &store)?;
    let before = judged(&*untrained)?;
    let untrained_accuracy = verification::accuracy(&before.dist, &before.same, before.threshold);
    let Unseen { dist, same, threshold, val, far } = judged(&*net)?;
    let people = mine.train.iter().map(|photo| photo.person).collect::<std::collections::BTreeSet<_>>().len();
    Ok(Fold {
        fold: fold + 1,
        trained_on_people: people,
        trained_on_images: mine.train.len(),
        threshold,
        accuracy: verification::accuracy(&dist, &same, threshold),
        auc: verification::auc(&dist, &same),
        eer: verification::equal_error_rate(&dist, &same),
        val,
        far,
        untrained_accuracy,
        run: at.display().to_string(),
        dist,
        same,
    })
}

fn show(h: &Hyper, set: &FaceSet, done: &[Fold], root: &Path, args: &Reproduce) -> Result<()> {
    let far = args.scoring.far;
    let percent = |x: f64| format!("{:.2}", 100. * x);
    let number = |x: f64| format!("{x:.4}");
    let rows = done.iter().map(|fold| {
        vec![
            fold.fold.to_string(),
            format!("{} / {}", fold.trained_on_people, fold.trained_on_images),
            percent(fold.untrained_accuracy),
            percent(fold.accuracy),
            format!("{:.2}", fold.threshold),
            number(fold.auc),
            percent(fold.val),
            format!("{:.4}", fold.far),
        ]
    });
    let head = ["fold", "people / images", "untrained", "accuracy", "threshold", "AUC", "VAL", "FAR"];
    print(format!("{}, unrestricted, no outside data: {} of {} folds", set.name, done.len(), set.folds))?;
    print(Table { head: head.map(String::from).to_vec(), rows: rows.collect() })?;
    print(format!(
        "a fold's network: {}; trained on the eight folds that are neither its own nor the next; thresholds from the next (VAL: FAR {far} over all pairs of its images)",
        h.net.name()
    ))?;
    let folds =
        Folds::of(done.iter().map(|fold| fold.accuracy).collect(), done.iter().map(|fold| fold.threshold).collect());
    let dist: Vec<f64> = done.iter().flat_map(|fold| fold.dist.clone()).collect();
    let same: Vec<bool> = done.iter().flat_map(|fold| fold.same.clone()).collect();
    let mean = |of: fn(&Fold) -> f64| done.iter().map(of).sum::<f64>() / done.len() as f64;
    // Each network has a scale of its own, so rates are means over folds.
    let ours =
        |name: String, accuracy: String, auc: String, eer: String, val: String| vec![name, accuracy, auc, eer, val];
    let untrained = Folds::of(done.iter().map(|fold| fold.untrained_accuracy).collect(), vec![0.; done.len()]);
    let some = if done.len() < set.folds { format!(" ({} of {} folds)", done.len(), set.folds) } else { String::new() };
    let more = vec![
        ours(
            format!("{}, untrained{some}", h.net.name()),
            format!("{} ± {}", percent(untrained.mean), percent(untrained.sem)),
            "–".into(),
            "–".into(),
            "–".into(),
        ),
        ours(
            format!("{}, trained{some}", h.net.name()),
            format!("{} ± {}", percent(folds.mean), percent(folds.sem)),
            number(mean(|fold| fold.auc)),
            number(mean(|fold| fold.eer)),
            percent(mean(|fold| fold.val)),
        ),
    ];
    let judged = baselines::judge(set, far)?;
    baselines::table(set, &judged, far, more)?;
    let of = |(name, judged): &(&str, Judged)| json!({"name": name, "accuracy": judged.folds.mean, "SEM": judged.folds.sem, "AUC": judged.auc, "EER": judged.eer, "VAL": judged.val.as_ref().ok().map(|val| val.val)});
    let baselines: Vec<Value> = judged.iter().map(of).collect();
    let value = json!({
        "paper": "facenet",
        "protocol": "LFW, unrestricted, no outside data",
        "data": set.name,
        "published_test_set": set.is_published(),
        "folds_run": done.len(),
        "folds": set.folds,
        "accuracy": folds.mean, "std": folds.std, "SEM": folds.sem,
        "AUC": mean(|fold| fold.auc), "EER": mean(|fold| fold.eer),
        "AUC_of_all_pairs_together": verification::auc(&dist, &same),
        format!("VAL_at_FAR_{far}"): mean(|fold| fold.val), "FAR": mean(|fold| fold.far),
        "each": done, "baselines": baselines,
        "flags": h, "departures": h.departures().into_iter().chain(args.scoring.departures()).collect::<Vec<_>>(),
    });
    let path = root.join("results.json");
    files::write_atomic(&path, serde_json::to_string_pretty(&value)?.as_bytes())?;
    print("The paper trains on outside data; it has no number for this setting.")?;
    print(format!("results: {}", path.display()))
}
