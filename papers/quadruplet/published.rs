//! The paper's numbers that were seen in a source, and when ours may stand beside them. Its result tables were not
//! found; what is remembered of them is unverified and stands nowhere here.

use super::*;

pub const CITATION: &str = "Chen, Chen, Zhang, Huang: Beyond triplet loss: a deep quadruplet network for person re-identification, CVPR 2017, arXiv 1704.01719";

/// Mean distance of intra-class and inter-class pairs on CUHK03's training set, as Figure 5 prints them.
pub const FIGURE_5: [(Model, f64, f64); 6] = [
    (Model::TripletEmbedding, 0.051118, 0.51677),
    (Model::TripletLearnedMetric, 0.054675, 0.34093),
    (Model::TripletNoSoftmax, 0.005917, 0.97232),
    (Model::TripletImproved, 0.001109, 0.98242),
    (Model::Quadruplet, 0.000793, 0.98959),
    (Model::QuadrupletMargohnm, 0.000374, 0.99746),
];

/// Ok where data, network and recipe are the paper's; else why not.
pub fn comparable(h: &Hyper, set: &ReidSet, step: u64) -> std::result::Result<(), String> {
    if set.layout != datasets::Layout::Cuhk03 || !set.is_published() {
        return Err(format!("the figure's distances are of CUHK03, and {} is not the whole of it", set.name));
    }
    if h.split == Split::NewProtocol {
        return Err("this is CUHK03's new protocol, which is younger than the paper".into());
    }
    if h.validation > 0 {
        return Err("these are held-out training people".into());
    }
    let departures = h.departures();
    if !departures.is_empty() {
        return Err(format!("this run departs from the paper's recipe: {}", departures.join("; ")));
    }
    if step < h.steps + h.steps2 {
        return Err(format!("training stopped at step {step} of {}", h.steps + h.steps2));
    }
    Ok(())
}

/// Figure 5's two numbers for this model, with ours beside them.
pub fn claims(h: &Hyper, scores: &[(String, f64)]) -> Vec<Claim> {
    let ours = |name: &str| scores.iter().find(|(known, _)| known == name).map(|(_, score)| *score);
    let row = FIGURE_5.iter().filter(|row| row.0 == h.model);
    row.flat_map(|&(model, intra, inter)| {
        [("same person", intra, INTRA), ("different people", inter, INTER)].map(|(pairs, paper, name)| Claim {
            what: format!("CUHK03 training set, {}, mean distance of pairs, {pairs}", model.title()),
            place: "Figure 5".into(),
            paper,
            ours: ours(name),
        })
    })
    .collect()
}
