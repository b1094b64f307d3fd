//! The paper's numbers, and when ours may stand beside them.

use super::*;
use rankle::datasets::faces::FaceLayout;

pub const CITATION: &str = "Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, arXiv 1503.03832";

/// VAL at FAR 1e-3 on the private hold-out, percent, and its standard error (Table 3).
pub const TABLE_3: [(&str, f64, f64); 6] = [
    ("NN1 220x220", 87.9, 1.9),
    ("NN2 224x224", 89.4, 1.6),
    ("NN3 160x160", 88.3, 1.7),
    ("NN4 96x96", 82.0, 2.3),
    ("NNS1 165x165", 82.4, 2.4),
    ("NNS2 140x116", 51.9, 2.9),
];

/// JPEG quality and VAL, percent (Table 4, NN1).
pub const TABLE_4_JPEG: [(u8, f64); 6] = [(10, 67.3), (20, 81.4), (30, 83.9), (50, 85.5), (70, 86.1), (90, 86.5)];

/// Pixels a side and VAL, percent (Table 4, NN1; the paper gives pixels an image: 1,600 to 65,536).
pub const TABLE_4_PIXELS: [(u32, f64); 5] = [(40, 37.8), (80, 79.5), (120, 84.5), (160, 85.7), (256, 86.4)];

/// Embedding width, VAL and its standard error, percent (Table 5, NN1).
pub const TABLE_5: [(i64, f64, f64); 4] = [(64, 86.8, 1.8), (128, 87.9, 1.9), (256, 87.7, 1.9), (512, 85.6, 2.0)];

/// Ok where protocol and recipe are the paper's; its training data are private, which every result says.
pub fn comparable(h: &Hyper, set: &FaceSet, flags: &flags::Scoring) -> std::result::Result<(), String> {
    if !set.is_published() {
        return Err(format!("{} is not a test set of the paper, or not the whole of it", set.name));
    }
    if flags.variant != Variant::Plain {
        return Err(format!("--variant {} is not the paper's", flags.variant.name()));
    }
    Err(match h.net {
        Net::Nn1 => "the paper trained on 100 to 200 million private faces; the test protocol is the same".into(),
        _ => format!(
            "the paper trained NN1 on 100 to 200 million private faces, this is {}; the test protocol is the same",
            h.net.name()
        ),
    })
}

/// The paper's numbers for this protocol, with ours beside them.
pub fn claims(h: &Hyper, set: &FaceSet, scores: &[(String, f64)]) -> Vec<Claim> {
    let ours = |name: &str| scores.iter().find(|(known, _)| known == name).map(|(_, score)| 100. * score);
    let claim = |what: &str, place: &str, paper: f64, ours: Option<f64>| Claim {
        what: what.into(),
        place: place.into(),
        paper,
        ours,
    };
    let lfw = set.layout == FaceLayout::Lfw;
    let ytf = set.layout == FaceLayout::YoutubeFaces;
    let accuracy = ours("accuracy").filter(|_| h.net == Net::Nn1);
    // LFW's own thumbnails are 250 pixels a side: cut at the centre they are the first claim's input, whole they are
    // neither's. Images of another size have been cut to the face before.
    let thumbnails =
        lfw && set.test.first().is_some_and(|photo| photo.source.dimensions().is_ok_and(|d| d == (250, 250)));
    let (centre, aligned) = (lfw && thumbnails && h.crop < 1., lfw && !thumbnails);
    let mut list = vec![
        claim("LFW, centre crop, accuracy", "Section 5.6", 98.87, accuracy.filter(|_| centre)),
        claim("LFW, extra face alignment, accuracy", "Section 5.6", 99.63, accuracy.filter(|_| aligned)),
        claim("YouTube Faces, first 100 frames, accuracy", "Section 5.7", 95.12, accuracy.filter(|_| ytf)),
        claim("YouTube Faces, first 1000 frames, accuracy", "Section 5.7", 95.18, None),
    ];
    for (name, val, _) in TABLE_3 {
        list.push(claim(&format!("private hold-out, {name}, VAL at FAR 1e-3"), "Table 3", val, None));
    }
    list
}
