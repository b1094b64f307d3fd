//! MTCNN: slow twins, and facenet-pytorch where it can be had.

use std::path::Path;

use image::RgbImage;
use rankle::datasets::drawn::face;
use rankle::models::Mtcnn;
use rankle::models::layers::Scope;
use rankle::picture;
use rankle::tasks::faces::{Detector, Overlap, chosen, suppress};
use rankle::weights::Published;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::common::{Place, Program, all_close, close, numbers, rows, shared};
use crate::export::ask;
use crate::picture::noise;

#[test]
fn suppression_is_that_of_nested_loops() {
    for (seed, overlap) in (0..20).flat_map(|seed| [(seed, Overlap::Union), (seed, Overlap::Smaller)]) {
        // Whole numbers, few scores: many boxes touch, contain each other, or have one score.
        let draw = numbers(seed, 60 * 5);
        let of = |row: &[f64]| {
            let [x, y, w, h] = [0, 1, 2, 3].map(|i| (20. * (row[i] + 1.)).floor() as f32);
            ([x, y, x + 1. + w, y + 1. + h], (row[4] * 5.) as i8 as f32)
        };
        let boxes: Vec<([f32; 4], f32)> = draw.chunks(5).map(of).collect();
        let more = if overlap == Overlap::Smaller { 1. } else { 0. };
        let side = |low: f32, high: f32| (f64::from(high - low) + more).max(0.);
        let size = |[l, t, r, b]: [f32; 4]| side(l, r) * side(t, b);
        let mut left: Vec<usize> = (0..boxes.len()).collect();
        let mut kept = Vec::new();
        while !left.is_empty() {
            let best = left.iter().map(|&i| boxes[i].1).fold(f32::MIN, f32::max);
            let mut ties = left.iter().copied().filter(|&i| boxes[i].1 == best);
            let top = if overlap == Overlap::Union { ties.next() } else { ties.next_back() }.expect("one");
            kept.push(top);
            left.retain(|&other| {
                let (a, b) = (boxes[top].0, boxes[other].0);
                let common = size([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
                let of = match overlap {
                    Overlap::Union => size(a) + size(b) - common,
                    Overlap::Smaller => size(a).min(size(b)),
                };
                other != top && common / of <= 0.5
            });
        }
        assert_eq!(suppress(&boxes, overlap, 0.5), kept, "{seed} {overlap:?}");
    }
    assert!(suppress(&[], Overlap::Union, 0.5).is_empty());
}

/// Drawn weights that call everything a face, or nothing.
fn weights(path: &Path, face: bool) {
    let store = VarStore::new(Device::Cpu);
    Mtcnn::new(&Scope::root(&store, 5));
    let mut all: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    for (name, x) in &mut all {
        if ["pnet.conv4_1.bias", "rnet.dense5_1.bias", "onet.dense6_1.bias"].contains(&name.as_str()) {
            *x = Tensor::from_slice(&[0_f32, if face { 6. } else { -60. }]);
        }
    }
    rankle::weights::save(path, &all, None).expect("saved");
}

/// The photos that others are cut from: two people, a folder in a folder, two of one name, and one too small for a face.
pub fn place() -> Place {
    let place = Place::new(Program(env!("CARGO_BIN_EXE_facenet")), "");
    for (i, name) in ["A/a1.png", "A/a2.png", "B/c/b.jpg", "B/c/b.png"].iter().enumerate() {
        face(3, i as u64 / 2, i as u64, 48).save(place.made(&format!("photos/{name}"))).expect("saved");
    }
    RgbImage::new(8, 8).save(place.path("photos/one.png")).expect("saved");
    weights(&place.path("w.safetensors"), true);
    weights(&place.path("none.safetensors"), false);
    place
}

#[test]
fn bands_and_windows_change_no_face() {
    let place = place();
    let detector = || Detector::open(&place.path("w.safetensors"), Device::Cpu).expect("weights");
    let photo = noise(3, 90, 71);
    let whole = detector().faces(&photo);
    assert!(whole.len() > 1);
    let size = |i: usize| (whole[i].edges[2] - whole[i].edges[0]) * (whole[i].edges[3] - whole[i].edges[1]);
    assert!((1..whole.len()).all(|i| size(i - 1) >= size(i)), "the largest first");
    for pixels in [1, 700, 2000] {
        let parts = detector().in_bands(pixels).faces(&photo);
        assert_eq!(parts.len(), whole.len(), "{pixels}");
        for (a, b) in parts.iter().zip(&whole) {
            a.edges.iter().zip(b.edges).for_each(|(a, b)| close((*a).into(), b.into(), 1e-4));
        }
    }
    // What is done of the pyramid is told, to the end.
    let shares = std::cell::RefCell::new(vec![0.]);
    detector().in_bands(700).faces_told(&photo, &|share| shares.borrow_mut().push(share));
    let shares = shares.into_inner();
    assert!(shares.len() > 5 && shares.is_sorted() && (shares[shares.len() - 1] - 1.).abs() < 1e-9, "{shares:?}");
    assert!(detector().faces(&RgbImage::new(19, 400)).is_empty());
    assert_eq!(chosen(&[], (90, 71)), None);
}

/// The package's networks on photos, and their weights in one file; its `__init__` would import far more.
const PEER: &str = r#"
import importlib.util, os, types
try:
    from PIL import Image
    import torchvision
    place = importlib.util.find_spec("facenet_pytorch").submodule_search_locations[0]
except Exception as error:
    print("no facenet-pytorch:", error)
    sys.exit(3)
package = types.ModuleType("facenet_pytorch")
package.__path__ = [place]
sys.modules["facenet_pytorch"] = package
from facenet_pytorch.models.mtcnn import MTCNN
net = MTCNN(selection_method="center_weighted_size")
save_file({name: x for name, x in net.state_dict().items()}, folder + "/mtcnn.safetensors")
answer = {}
for name in sorted(os.listdir(which)):
    image = Image.open(os.path.join(which, name)).convert("RGB")
    boxes, probabilities, points = net.detect(image, landmarks=True)
    rows = [[*box, p, *point.ravel()] for box, p, point in zip(boxes, probabilities, points)] if boxes is not None else []
    answer[name] = torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64).reshape(-1, 15)
    if boxes is not None:
        one, _, _ = net.select_boxes(boxes, probabilities, points, image, method="center_weighted_size")
        answer[name + " chosen"] = torch.tensor([[i for i, box in enumerate(boxes) if (box == one[0]).all()][0]])
draws = torch.Generator().manual_seed(1)
for stage, side in (("pnet", 31), ("rnet", 24), ("onet", 48)):
    windows = torch.rand(5, 3, side, side, generator=draws) * 2 - 1
    with torch.no_grad():
        said = getattr(net, stage)(windows)
    # The probabilities of no face and of a face come last.
    said = dict(zip(["shifts", "points", "probabilities"] if stage == "onet" else ["shifts", "probabilities"], said))
    answer.update({f"{stage} {what}": x.contiguous() for what, x in {"windows": windows, **said}.items()})
save_file(answer, folder + "/answer.safetensors")
"#;

#[test]
fn faces_are_those_of_facenet_pytorch() {
    let photos = tempfile::tempdir().expect("a folder");
    let mut found = Vec::new();
    for set in ["lfw-mini/Ariel_Sharon", "lfw-mini/Vladimir_Putin", "coco-256/val2014"] {
        let Some(folder) = shared(set) else { continue };
        let mut passed = rankle::folders::Passed::default();
        found.extend(rankle::folders::images(&folder, &mut passed).expect("images").into_iter().take(10));
    }
    for (i, entry) in found.iter().enumerate() {
        std::fs::copy(entry.path(), photos.path().join(format!("{i:02}.jpg"))).expect("copied");
    }
    face(3, 1, 1, 160).save(photos.path().join("drawn.png")).expect("saved");
    let Some((folder, answer)) = ask(PEER, &photos.path().display().to_string(), &[]) else { return };
    let detector =
        Detector::open(&folder.path().join("mtcnn.safetensors"), Device::Cpu).expect("the package's weights");
    // Each network by itself.
    let mut store = VarStore::new(Device::Cpu);
    let net = Mtcnn::new(&Scope::root(&store, 1));
    rankle::weights::start(&store, &folder.path().join("mtcnn.safetensors"), &Published::MTCNN).expect("all of it");
    store.freeze();
    let of = |what: &str| &answer[what];
    for (stage, (probability, shifts)) in
        [("pnet", net.propose(of("pnet windows"))), ("rnet", net.refine(of("rnet windows")))]
    {
        all_close(&probability, &of(&format!("{stage} probabilities")).select(1, 1), 1e-4);
        all_close(&shifts, of(&format!("{stage} shifts")), 1e-4);
    }
    let (probability, shifts, points) = net.decide(of("onet windows"));
    all_close(&probability, &of("onet probabilities").select(1, 1), 1e-4);
    all_close(&shifts, of("onet shifts"), 1e-4);
    all_close(&points, of("onet points"), 1e-4);
    let mut faces = 0;
    for (name, theirs) in answer.iter().filter(|(name, _)| name.ends_with(".jpg") || name.ends_with(".png")) {
        let photo = picture::load(&photos.path().join(name)).expect("a photo");
        let ours = detector.faces(&photo);
        let theirs = if theirs.numel() == 0 { Vec::new() } else { rows(theirs) };
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let numbers = ours.edges.iter().chain([&ours.probability]).chain(ours.landmarks.as_flattened());
            numbers.zip(&theirs).for_each(|(ours, theirs)| assert!((f64::from(*ours) - theirs).abs() < 0.1, "{name}"));
            assert!((f64::from(ours.probability) - theirs[4]).abs() < 1e-4, "{name}");
            faces += 1;
        }
        let theirs = answer.get(&format!("{name} chosen")).map(|x| x.int64_value(&[0]) as usize);
        assert_eq!(chosen(&ours, photo.dimensions()), theirs, "{name}");
    }
    assert!(found.is_empty() || faces > 20, "{faces}");
}
