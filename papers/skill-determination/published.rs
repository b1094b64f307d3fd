//! The paper's numbers, and when ours may stand beside them.

use super::*;

/// The sets of Table 2, in its order.
const SETS: [&str; 4] = ["surgery", "dough", "drawing", "chopsticks"];

/// Tasks of each set; what a task and a fold hold is checked by [`SkillSet::is_published`].
const TASKS: [usize; 4] = [3, 1, 2, 1];

/// Table 2: accuracy in per cent by loss and set: spatial, temporal, fused.
const TABLE_2: [[[f64; 3]; 4]; 3] = [
    [[64.7, 72.8, 69.1], [77.6, 79.4, 78.5], [75.6, 77.4, 78.0], [67.2, 67.9, 68.8]],
    [[64.4, 73.3, 69.0], [79.1, 80.4, 78.5], [74.9, 81.8, 79.1], [67.2, 69.9, 68.8]],
    [[66.4, 72.5, 70.2], [79.5, 79.5, 79.4], [77.6, 82.7, 83.2], [70.8, 70.6, 71.5]],
];

/// Table 2 of the first version (BN-Inception), L_rank1 and L_rank2: spatial, temporal. Its fusion has another alpha a
/// set.
const V1_TABLE_2: [[[f64; 2]; 4]; 2] = [
    [[66.5, 74.4], [73.9, 76.7], [75.6, 76.5], [67.7, 67.4]],
    [[66.5, 75.3], [77.0, 76.1], [76.7, 79.0], [66.8, 69.8]],
];

/// Fig. 4, read from its curves: accuracy for alpha 0, 0.1, ..., 1.
pub const FIG_4: [[f64; 11]; 4] = [
    [72.5, 72.3, 71.4, 70.6, 70.2, 69.4, 68.6, 68.6, 68.0, 67.6, 66.4],
    [79.4, 78.2, 78.2, 77.8, 79.4, 79.7, 79.4, 80.0, 79.7, 80.0, 79.1],
    [82.7, 82.7, 82.7, 82.5, 83.2, 82.5, 82.5, 82.1, 80.7, 78.9, 77.6],
    [70.7, 71.2, 71.5, 71.3, 71.5, 71.2, 71.3, 71.6, 71.3, 71.2, 70.9],
];

/// The numbers of snippets of Fig. 5.
pub const COUNTS: [usize; 7] = [1, 3, 5, 10, 15, 20, 25];

/// Fig. 5, read from its curves: from the start, from the end, at random; NaN where no point can be read.
pub const FIG_5: [[[f64; 7]; 3]; 4] = [
    [
        [59.1, 66.4, 68.6, 70.0, f64::NAN, 70.4, 70.2],
        [62.2, 63.5, 65.0, 68.1, 69.5, 69.6, 70.2],
        [63.0, 67.8, 67.4, 69.7, 70.7, 70.5, 70.2],
    ],
    [
        [68.9, 73.9, 75.7, 80.3, 79.3, 80.3, 79.4],
        [67.6, 73.6, 76.9, 78.8, 79.4, 79.7, 79.4],
        [72.7, 73.9, 76.0, 80.3, 79.1, 80.3, 79.4],
    ],
    [
        [77.1, 80.3, 82.7, 83.9, 83.5, 83.6, 83.2],
        [73.1, 78.5, 81.2, 82.1, 82.7, 82.5, 83.2],
        [78.0, 81.4, 82.3, 83.2, 83.2, 83.0, 83.2],
    ],
    [
        [60.7, 64.2, 66.0, 66.5, 69.2, 70.7, 71.5],
        [72.8, 68.3, 74.0, 74.6, 73.9, 72.8, 71.5],
        [68.7, 71.3, 69.5, 71.0, 71.9, 71.6, 71.5],
    ],
];

/// Fig. 6, read from its bars: accuracy by separation 1, 2, ...
pub const FIG_6: [&[f64]; 4] = [
    &[52.8, 57.6, 60.1, 59.5, 69.2, 71.3, 78.6, 82.3, 85.4, 91.6, 92.9, 91.9, 94.2, 96.6, 93.8, 100.],
    &[64.5, 80.0, 79.5, 83.8, 91.7, 91.7, 95.0, 100., 93.3, 100.],
    &[73.7, 81.7, 93.3, 100., 100., 100.],
    &[53.0, 52.8, 59.0, 68.2, 66.2, 75.0, 76.6, 84.6, 83.3, 80.0, 81.4, 87.5, 92.6, 96.2, 100., 100., 100., 100.],
];

/// The set's place in the paper's tables.
pub fn place(set: &SkillSet) -> Option<usize> {
    SETS.iter().position(|name| *name == set.name)
}

/// Ok where data, network, recipe and protocol are the paper's; else why not.
pub fn comparable(h: &Hyper, set: &SkillSet, scoring: &flags::Scoring) -> std::result::Result<(), String> {
    let Some(i) = place(set) else { return Err(format!("{} is not a data set of the paper", set.name)) };
    if set.tasks.len() != TASKS[i] {
        return Err(format!("{} has {} of the paper's {} tasks", set.name, set.tasks.len(), TASKS[i]));
    }
    if !set.is_published() {
        let why = set.unlike_published().into_iter().next();
        return Err(why.unwrap_or_else(|| format!("{} is not the published set of that name", set.name)));
    }
    if h.net == Net::BnInception && h.loss == Loss::Rank3 {
        return Err("the paper's first version, which has BN-Inception, has no L_rank3".into());
    }
    let departures = h.departures();
    if !departures.is_empty() {
        return Err(format!("this run departs from the paper's recipe: {}", departures.join("; ")));
    }
    if h.folds.is_some() {
        return Err("the paper pools all four folds: train without --folds".into());
    }
    if scoring.sigma != 25 {
        return Err(format!("--sigma {} (the paper: 25)", scoring.sigma));
    }
    Ok(())
}

/// The paper's numbers for this loss and set (all sets where it is another), with ours beside them.
pub fn claims(h: &Hyper, set: &SkillSet, scoring: &flags::Scoring, scores: &[(String, f64)]) -> Vec<Claim> {
    let mut list = Vec::new();
    let ours = |name: &str| scores.iter().find(|(known, _)| known == name).map(|(_, score)| 100. * score);
    let own = place(set);
    for (i, name) in SETS.iter().enumerate().filter(|(i, _)| own.is_none_or(|own| own == *i)) {
        let mut claim = |what: &str, table: &str, paper: f64, ours: Option<f64>| {
            let what = format!("{name}, {}, {what}", h.loss.name());
            list.push(Claim { what, place: table.into(), paper, ours });
        };
        let stream = |name: &str| own.and_then(|_| ours(name));
        if h.net == Net::BnInception {
            if h.loss != Loss::Rank3 {
                let [spatial, temporal] = V1_TABLE_2[h.loss as usize][i];
                claim("spatial", "Table 2 of the first version", spatial, stream("spatial"));
                claim("temporal", "Table 2 of the first version", temporal, stream("temporal"));
            }
            continue;
        }
        let [spatial, temporal, fused] = TABLE_2[h.loss as usize][i];
        claim("spatial", "Table 2", spatial, stream("spatial"));
        claim("temporal", "Table 2", temporal, stream("temporal"));
        let at_alpha = (scoring.alpha - 0.4).abs() < 1e-9;
        claim("fused", "Table 2", fused, stream("fused").filter(|_| at_alpha));
        if h.loss == Loss::Rank3 && own.is_some() {
            for (n, &paper) in FIG_6[i].iter().enumerate() {
                let score = stream(&format!("fused, separation {}", n + 1)).filter(|_| at_alpha);
                claim(&format!("separation {}", n + 1), "Fig. 6 (its bars)", paper, score);
            }
        }
    }
    list
}
