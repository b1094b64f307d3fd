//! The paper's numbers, and when ours may stand beside them.

use super::*;
use rankle::datasets::Layout;

/// mAP, rank-1 and rank-5 of Table 2 by network, for Market-1501 single query, multi query and MARS; then re-ranked.
const TABLE_2: [(Net, [[f64; 3]; 6]); 2] = [
    (
        Net::Trinet,
        [
            [69.14, 84.92, 94.21],
            [76.42, 90.53, 96.29],
            [67.70, 79.80, 91.36],
            [81.07, 86.67, 93.38],
            [87.18, 91.75, 95.78],
            [77.43, 81.21, 90.76],
        ],
    ),
    (
        Net::Lunet,
        [
            [60.71, 81.38, 92.34],
            [69.07, 87.11, 95.16],
            [60.48, 75.56, 89.70],
            [75.62, 84.59, 91.89],
            [82.61, 89.31, 94.48],
            [73.68, 78.48, 88.74],
        ],
    ),
];

/// mAP, rank-1, rank-5 of Table 4 (Market-1501, single query) for smaller inputs.
const TABLE_4: [(Net, u32, u32, [f64; 3]); 3] = [
    (Net::Trinet, 128, 64, [62.52, 79.45, 91.06]),
    (Net::Trinet, 64, 32, [47.42, 68.08, 85.84]),
    (Net::Lunet, 64, 32, [57.18, 78.21, 90.94]),
];

/// mAP and rank-1 of Table 5 (Market-1501, single query) by test views: TriNet, LuNet.
const TABLE_5: [(TestViews, [f64; 2], [f64; 2]); 5] = [
    (TestViews::Original, [65.48, 82.51], [55.61, 76.72]),
    (TestViews::Centre, [66.29, 84.06], [57.08, 77.94]),
    (TestViews::CentreFlip, [68.32, 84.47], [59.31, 79.78]),
    (TestViews::FiveCrops, [67.86, 84.83], [59.00, 79.42]),
    (TestViews::TenCrops, [69.14, 84.92], [60.71, 81.38]),
];

/// Ok where data, network, recipe and protocol are the paper's; else why not.
pub fn comparable(h: &Hyper, set: &ReidSet, step: u64, flags: &flags::Scoring) -> std::result::Result<(), String> {
    if !set.is_published() {
        return Err(format!("{} is not a data set of the paper, or not the whole of it", set.name));
    }
    if h.validation > 0 {
        return Err("these are held-out training people, not the test set".into());
    }
    let mut departures = h.departures();
    // Table 4 has other sizes and Table 5 other views; these are rows of the paper too.
    departures.retain(|text| {
        !(text.starts_with("--size") && TABLE_4.iter().any(|row| (row.0, row.1, row.2) == (h.net, h.height, h.width)))
    });
    if !departures.is_empty() {
        return Err(format!("this run departs from the paper's recipe: {}", departures.join("; ")));
    }
    if flags.views != TestViews::TenCrops
        && (h.height, h.width)
            != (Hyper::base(h.net, flags::Scale::Paper).height, Hyper::base(h.net, flags::Scale::Paper).width)
    {
        return Err("the paper has no row for this input size with these test views".into());
    }
    if step < h.t1 {
        return Err(format!("training stopped at step {step} of {}", h.t1));
    }
    Ok(())
}

/// The paper's numbers for this network, data and protocol, with ours beside them.
pub fn claims(h: &Hyper, set: &ReidSet, flags: &flags::Scoring, scores: &[(String, f64)]) -> Vec<Claim> {
    let mut list = Vec::new();
    let mut claim = |what: String, place: &str, paper: f64, score: Option<String>| {
        let ours =
            score.and_then(|name| scores.iter().find(|(known, _)| *known == name)).map(|(_, score)| 100. * score);
        list.push(Claim { what, place: place.into(), paper, ours });
    };
    let paper_size = Hyper::base(h.net, flags::Scale::Paper);
    let full = (h.height, h.width) == (paper_size.height, paper_size.width);
    let mars = set.layout == Layout::Mars;
    let rows = TABLE_2.iter().find(|(net, _)| *net == h.net).map(|(_, rows)| rows).into_iter().flatten();
    let names = [
        ("Market-1501", "single query", false),
        ("Market-1501", "multi query", false),
        ("MARS", "single query", true),
        ("Market-1501", "single query re-ranked", false),
        ("Market-1501", "multi query re-ranked", false),
        ("MARS", "single query re-ranked", true),
    ];
    for (numbers, (data, protocol, of_mars)) in rows.zip(names) {
        // Where the data are neither, Market's numbers are shown: what the paper is about.
        if of_mars != mars {
            continue;
        }
        for (number, score) in numbers.iter().zip(["mAP", "rank-1", "rank-5"]) {
            let mine = (full && flags.views == TestViews::TenCrops).then(|| format!("{protocol} {score}"));
            claim(format!("{data}, {protocol}, {score}"), "Table 2", *number, mine);
        }
    }
    for (net, height, width, numbers) in TABLE_4.iter().filter(|row| row.0 == h.net && !mars) {
        for (number, score) in numbers.iter().zip(["mAP", "rank-1", "rank-5"]) {
            let mine = ((h.height, h.width) == (*height, *width) && flags.views == TestViews::TenCrops)
                .then(|| format!("single query {score}"));
            claim(format!("Market-1501, {} at {height}x{width}, {score}", net.name()), "Table 4", *number, mine);
        }
    }
    for (views, trinet, lunet) in TABLE_5.iter().filter(|row| row.0 != TestViews::TenCrops && !mars) {
        let numbers = if h.net == Net::Trinet { trinet } else { lunet };
        for (number, score) in numbers.iter().zip(["mAP", "rank-1"]) {
            let mine = (full && flags.views == *views).then(|| format!("single query {score}"));
            claim(format!("Market-1501, test views {}, {score}", views.name()), "Table 5", *number, mine);
        }
    }
    list
}
