//! Networks of snippets and features: AlexNet, BN-Inception, the small one, a head alone.

use rankle::losses::skill::rank;
use rankle::models::layers::Scope;
use rankle::models::{AlexNet, BnInception, FeatureHead, Network, SnippetSmall};
use rankle::weights::{self, Published};
use tch::{Device, Kind, Tensor};

use super::store;
use crate::common::{all_close, line, trainable_parameters, value};
use crate::export::{answers_alike, drawn, python_agrees, used};

#[test]
fn parameters_are_the_published_networks() {
    let vs = store();
    AlexNet::new(&Scope::root(&vs, 1), 3, 0.5);
    // torchvision's AlexNet has 61 100 840, of which its 1000 classes take 4 097 000.
    assert_eq!(trainable_parameters(&vs), 61_100_840 - 4_097_000 + 4_097);
    let vs = store();
    BnInception::new(&Scope::root(&vs, 1), 3, 0.8);
    // Cadene's has 11 295 240, of which its 1000 classes take 1 025 000.
    assert_eq!(trainable_parameters(&vs), 11_295_240 - 1_025_000 + 1_025);
    let vs = store();
    BnInception::new(&Scope::root(&vs, 1), 10, 0.7);
    assert_eq!(vs.variables()[BnInception::FIRST].size(), [64, 10, 7, 7]);
}

/// BN-Inception in PyTorch.
const AGAIN: &str = r#"
def unit(x, name, stride=1, padding=0):
    x = F.conv2d(x, w(name + ".weight"), w(name + ".bias"), stride, padding)
    return F.relu(bn(x, name + "_bn", 1e-5))
x = F.max_pool2d(unit(x, "conv1_7x7_s2", 2, 3), 3, 2, ceil_mode=True)
x = unit(unit(x, "conv2_3x3_reduce"), "conv2_3x3", 1, 1)
x = F.max_pool2d(x, 3, 2, ceil_mode=True)
for name in ["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]:
    n = "inception_" + name + "_"
    down = name in ("3c", "4e")
    s = 2 if down else 1
    parts = [] if down else [unit(x, n + "1x1")]
    parts.append(unit(unit(x, n + "3x3_reduce"), n + "3x3", s, 1))
    y = unit(unit(x, n + "double_3x3_reduce"), n + "double_3x3_1", 1, 1)
    parts.append(unit(y, n + "double_3x3_2", s, 1))
    if down:
        parts.append(F.max_pool2d(x, 3, 2, ceil_mode=True))
    elif name == "5b":
        parts.append(unit(F.max_pool2d(x, 3, 1, 1, ceil_mode=True), n + "pool_proj"))
    else:
        parts.append(unit(F.avg_pool2d(x, 3, 1, 1, ceil_mode=True, count_include_pad=True), n + "pool_proj"))
    x = torch.cat(parts, 1)
y = F.linear(x.mean((2, 3)), w("score.weight"), w("score.bias"))
"#;

#[test]
fn pytorch_gives_the_same_scores() {
    let vs = store();
    let net = BnInception::new(&Scope::root(&vs, 3), 10, 0.7);
    // Its strided convolutions and pools round differently: multiples of 32.
    answers_alike(AGAIN, "", &vs, &net, &drawn(7, &[2, 10, 128, 96]));
}

#[test]
fn python_finds_all_of_the_scorers() {
    const LARGER: &[[i64; 2]] = &[[96, 64]];
    let all = [0, 1, 2].map(|which| {
        let vs = store();
        let at = Scope::root(&vs, 1);
        let (net, size): (Box<dyn Network>, [i64; 2]) = match which {
            0 => (Box::new(AlexNet::new(&at, 3, 0.5)), [64, 64]),
            1 => (Box::new(BnInception::new(&at, 3, 0.7)), [64, 64]),
            _ => (Box::new(SnippetSmall::new(&at, 3, 0.5)), [32, 32]),
        };
        used(&vs);
        (vs, net, size)
    });
    python_agrees(&all.each_ref().map(|(vs, net, size)| (vs, &**net, *size, LARGER)));
}

#[test]
fn imagenet_weights_start_both_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    // As Cadene's file has them: 3 channels, batch normalisation's vectors as rows, a counter, 1000 classes.
    let path = folder.path().join("weights.safetensors");
    let source = store();
    BnInception::new(&Scope::root(&source, 5), 3, 0.8);
    used(&source);
    let mut tensors: Vec<(String, Tensor)> = source.variables().into_iter().collect();
    tensors.retain(|(name, _)| !name.starts_with("score."));
    for (name, x) in &mut tensors {
        if name.contains("_bn.") {
            *x = x.unsqueeze(0);
        }
    }
    tensors.push(("last_linear.weight".into(), Tensor::zeros([1000, 1024], (Kind::Float, Device::Cpu))));
    tensors.push(("last_linear.bias".into(), Tensor::zeros([1000], (Kind::Float, Device::Cpu))));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    weights::save(&path, &tensors, None).expect("written");
    for channels in [3, 10] {
        let vs = store();
        BnInception::new(&Scope::root(&vs, 6), channels, 0.8);
        let before = vs.variables()["score.weight"].copy();
        let said = weights::start(&vs, &path, &Published::BN_INCEPTION).expect("loads");
        assert_eq!(said.contains("averaged"), channels == 10, "{said}");
        let (ours, theirs) = (vs.variables(), source.variables());
        for (name, x) in &ours {
            match name.as_str() {
                "score.weight" => assert!(x.equal(&before)),
                name if name == BnInception::FIRST && channels == 10 => {
                    let mean = theirs[name].mean_dim(1, false, None::<Kind>);
                    (0..10).for_each(|channel| all_close(&x.select(1, channel), &mean, 0.));
                }
                name if name.starts_with("score.") => {}
                name => assert!(x.equal(&theirs[name]), "{name}"),
            }
        }
    }
    let vs = store();
    AlexNet::new(&Scope::root(&vs, 1), 3, 0.5);
    let text = line(weights::start(&vs, &path, &Published::ALEXNET));
    assert!(text.contains("weights of another network"), "{text}");
}

#[test]
fn partial_batch_norm_moves_the_first_layer_alone() {
    let vs = store();
    let net = BnInception::new(&Scope::root(&vs, 1), 3, 0.);
    let before: Vec<(String, Tensor)> = vs.variables().into_iter().map(|(name, x)| (name, x.copy())).collect();
    let _ = net.forward(&drawn(1, &[2, 3, 64, 64]), true);
    let now = vs.variables();
    for (name, x) in before.iter().filter(|(name, _)| name.contains("running")) {
        assert_eq!(!now[name].equal(x), name.starts_with("conv1_7x7_s2_bn"), "{name}");
    }
}

#[test]
fn a_head_learns_to_rank_features() {
    tch::manual_seed(1);
    let vs = store();
    let net = FeatureHead::new(&Scope::root(&vs, 1), 6, 0.);
    let (a, b) = (drawn(1, &[64, 6]), drawn(2, &[64, 6]));
    // The sum of the features is the skill.
    let better = a.sum_dim_intlist(1, true, Kind::Float).gt_tensor(&b.sum_dim_intlist(1, true, Kind::Float));
    let (first, second) = (a.where_self(&better, &b), b.where_self(&better, &a));
    let mut optimizer = rankle::optim::Optimizer::new(rankle::optim::Rule::Sgd { momentum: 0.9 }, 0., &vs);
    for _ in 0..100 {
        let (i, j) = (net.forward(&first, true).squeeze_dim(1), net.forward(&second, true).squeeze_dim(1));
        optimizer.zero_grad();
        rank(&i, &j, 1.).mean().backward();
        optimizer.step(0.05, 0.);
    }
    let right = net.forward(&first, false).gt_tensor(&net.forward(&second, false)).to_kind(Kind::Float);
    assert!(value(&right.mean(Kind::Float)) > 0.9);
}
