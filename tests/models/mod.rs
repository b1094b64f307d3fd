//! The networks against nested loops, their published sizes, and what training and export rely on.

mod fold;
mod inception;
mod parity;
mod quadruplet;

use std::collections::{BTreeMap, HashMap};

use crate::common::{all_close, trainable_parameters, value};
use rand::Rng;
use rankle::models::layers::{Init, Scope};
use rankle::models::{LuNet, Network, TriNet, channels_last};
use rankle::seed;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn store() -> VarStore {
    VarStore::new(Device::Cpu)
}

fn drawn(seed: u64, shape: &[i64]) -> Tensor {
    let mut rng = seed::at(seed, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Batch normalisation that a mistake in it would show: no statistic and no factor is left at 0 or 1.
fn stir(vs: &VarStore) {
    for (name, mut tensor) in vs.variables() {
        let draw = |low: f32, high: f32| {
            let mut rng = seed::at(seed::named(5, &name), 0, 0);
            Tensor::from_slice(&(0..tensor.numel()).map(|_| rng.random_range(low..high)).collect::<Vec<f32>>())
        };
        let new = match name.rsplit('.').next().unwrap() {
            "running_mean" | "bias" => draw(-0.3, 0.3),
            "running_var" => draw(0.5, 1.5),
            "weight" if tensor.dim() == 1 => draw(0.5, 1.5),
            _ => continue,
        };
        tch::no_grad(|| tensor.copy_(&new));
    }
}

fn close(a: &Tensor, b: &Tensor, relative: f64) {
    let scale = b.abs().max().double_value(&[]);
    let worst = (a - b).abs().max().double_value(&[]);
    assert!(worst <= relative * scale, "differ by {worst} where the largest is {scale}");
}

// One image, in f64, by nested loops.
struct Map {
    c: usize,
    h: usize,
    w: usize,
    v: Vec<f64>,
}

struct Naive(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Naive {
    fn of(vs: &VarStore) -> Naive {
        let flat = |t: &Tensor| Vec::<f64>::try_from(t.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap();
        let shape = |t: &Tensor| t.size().iter().map(|&n| n as usize).collect();
        Naive(vs.variables().iter().map(|(name, t)| (name.clone(), (shape(t), flat(t)))).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(&format!("{name}.weight"))
    }

    fn conv(&self, name: &str, x: &Map, stride: usize, pad: usize) -> Map {
        let (shape, k) = &self.0[&format!("{name}.weight")];
        let (out, inputs, n) = (shape[0], shape[1], shape[2]);
        assert_eq!(inputs, x.c);
        let (h, w) = ((x.h + 2 * pad - n) / stride + 1, (x.w + 2 * pad - n) / stride + 1);
        let mut v = vec![0.0; out * h * w];
        for o in 0..out {
            for i in 0..h {
                for j in 0..w {
                    let mut sum = 0.0;
                    for c in 0..inputs {
                        for di in 0..n {
                            for dj in 0..n {
                                let (y, z) = (i * stride + di, j * stride + dj);
                                if y >= pad && z >= pad && y - pad < x.h && z - pad < x.w {
                                    sum += k[((o * inputs + c) * n + di) * n + dj]
                                        * x.v[(c * x.h + y - pad) * x.w + z - pad];
                                }
                            }
                        }
                    }
                    v[(o * h + i) * w + j] = sum;
                }
            }
        }
        Map { c: out, h, w, v }
    }

    fn bn(&self, name: &str, mut x: Map, slope: f64) -> Map {
        let get = |what: &str| &self.0[&format!("{name}.{what}")].1;
        for c in 0..x.c {
            let scale = get("weight")[c] / (get("running_var")[c] + 1e-5).sqrt();
            for v in &mut x.v[c * x.h * x.w..(c + 1) * x.h * x.w] {
                let y = (*v - get("running_mean")[c]) * scale + get("bias")[c];
                *v = if y < 0.0 { slope * y } else { y };
            }
        }
        x
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (shape, w) = &self.0[&format!("{name}.weight")];
        let bias = self.0.get(&format!("{name}.bias"));
        (0..shape[0])
            .map(|o| {
                let dot: f64 = w[o * shape[1]..(o + 1) * shape[1]].iter().zip(x).map(|(a, b)| a * b).sum();
                dot + bias.map_or(0.0, |b| b.1[o])
            })
            .collect()
    }

    fn head(&self, x: &[f64], slope: f64) -> Vec<f64> {
        let hidden = self.linear("head.hidden", x);
        let map = Map { c: hidden.len(), h: 1, w: 1, v: hidden };
        self.linear("head.embedding", &self.bn("head.bn", map, slope).v)
    }

    fn trinet(&self, image: Map) -> Vec<f64> {
        let mut x = pool(&self.bn("bn1", self.conv("conv1", &image, 2, 3), 0.0));
        for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
            for block in 0..blocks {
                let at = format!("layer{}.{block}", stage + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let y = self.bn(&format!("{at}.bn1"), self.conv(&format!("{at}.conv1"), &x, 1, 0), 0.0);
                let y = self.bn(&format!("{at}.bn2"), self.conv(&format!("{at}.conv2"), &y, stride, 1), 0.0);
                let y = self.bn(&format!("{at}.bn3"), self.conv(&format!("{at}.conv3"), &y, 1, 0), 1.0);
                let short = if self.has(&format!("{at}.downsample.0")) {
                    self.bn(&format!("{at}.downsample.1"), self.conv(&format!("{at}.downsample.0"), &x, stride, 0), 1.0)
                } else {
                    x
                };
                x = Map { v: y.v.iter().zip(&short.v).map(|(a, b)| (a + b).max(0.0)).collect(), ..y };
            }
        }
        let area = x.h * x.w;
        let means: Vec<f64> = x.v.chunks(area).map(|c| c.iter().sum::<f64>() / area as f64).collect();
        self.head(&means, 0.0)
    }

    fn lunet(&self, image: Map) -> Vec<f64> {
        let mut x = self.bn("bn1", self.conv("conv1", &image, 1, 3), 0.3);
        for block in 1..=12 {
            let at = format!("block{block}");
            let mut y = Map { v: x.v.clone(), ..x };
            for layer in 1..=if block == 12 { 2 } else { 3 } {
                let pad = usize::from(block == 12 || layer == 2);
                y = self.conv(&format!("{at}.conv{layer}"), &self.bn(&format!("{at}.bn{layer}"), y, 0.3), 1, pad);
            }
            let short = if self.has(&format!("{at}.projection")) {
                self.conv(&format!("{at}.projection"), &x, 1, 0)
            } else {
                x
            };
            x = Map { v: y.v.iter().zip(&short.v).map(|(a, b)| a + b).collect(), ..y };
            if [1, 4, 6, 9, 11].contains(&block) {
                x = pool(&x);
            }
        }
        self.head(&x.v, 0.3)
    }
}

fn pool(x: &Map) -> Map {
    let (h, w) = (x.h.div_ceil(2), x.w.div_ceil(2));
    let mut v = vec![f64::NEG_INFINITY; x.c * h * w];
    for c in 0..x.c {
        for (i, j) in (0..x.h).flat_map(|i| (0..x.w).map(move |j| (i, j))) {
            // A pixel lies in every window whose centre 2k is at most 1 away.
            for (k, l) in (0..h).flat_map(|k| (0..w).map(move |l| (k, l))) {
                if (2 * k).abs_diff(i) <= 1 && (2 * l).abs_diff(j) <= 1 {
                    let best = &mut v[(c * h + k) * w + l];
                    *best = best.max(x.v[(c * x.h + i) * x.w + j]);
                }
            }
        }
    }
    Map { c: x.c, h, w, v }
}

/// Row `i` of a batch as a map.
fn image(batch: &Tensor, i: i64) -> Map {
    let (_, c, h, w) = batch.size4().unwrap();
    let v = Vec::<f64>::try_from(batch.get(i).to_kind(Kind::Double).flatten(0, -1)).unwrap();
    Map { c: c as usize, h: h as usize, w: w as usize, v }
}

#[test]
fn trinet_is_what_nested_loops_compute() {
    let vs = store();
    let net = TriNet::new(&Scope::root(&vs, 1));
    stir(&vs);
    let images = drawn(2, &[2, 3, 40, 33]);
    let out = tch::no_grad(|| net.forward(&images, false)).to_kind(Kind::Double);
    let naive = Naive::of(&vs);
    for i in 0..2 {
        close(&out.get(i), &Tensor::from_slice(&naive.trinet(image(&images, i))), 1e-4);
    }
}

#[test]
fn lunet_is_what_nested_loops_compute() {
    let vs = store();
    let net = LuNet::new(&Scope::root(&vs, 1), 64, 32, 16).unwrap();
    stir(&vs);
    let images = drawn(3, &[2, 3, 64, 32]);
    let out = tch::no_grad(|| net.forward(&images, false)).to_kind(Kind::Double);
    let naive = Naive::of(&vs);
    for i in 0..2 {
        close(&out.get(i), &Tensor::from_slice(&naive.lunet(image(&images, i))), 1e-4);
    }
}

#[test]
fn trinet_has_the_papers_size_and_torchvisions_names() {
    let vs = store();
    let net = TriNet::new(&Scope::root(&vs, 0));
    assert_eq!(net.width(), 128);
    assert_eq!(trainable_parameters(&vs), 25_738_432);
    let (head, backbone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        vs.variables().into_iter().partition(|(name, _)| name.starts_with("head."));
    let of_head: Vec<&str> = head.keys().map(String::as_str).collect();
    assert_eq!(
        of_head,
        [
            "head.bn.bias",
            "head.bn.running_mean",
            "head.bn.running_var",
            "head.bn.weight",
            "head.embedding.bias",
            "head.embedding.weight",
            "head.hidden.weight"
        ]
    );
    // torchvision's 320 tensors less fc's 2 and 53 num_batches_tracked.
    assert_eq!(backbone.len(), 320 - 2 - 53);
    for (name, shape) in [
        ("conv1.weight", vec![64, 3, 7, 7]),
        ("bn1.running_var", vec![64]),
        ("layer1.0.conv1.weight", vec![64, 64, 1, 1]),
        ("layer1.0.downsample.0.weight", vec![256, 64, 1, 1]),
        ("layer1.0.downsample.1.running_mean", vec![256]),
        ("layer2.0.conv2.weight", vec![128, 128, 3, 3]),
        ("layer3.5.conv3.weight", vec![1024, 256, 1, 1]),
        ("layer4.0.downsample.0.weight", vec![2048, 1024, 1, 1]),
        ("layer4.2.bn3.bias", vec![2048]),
    ] {
        assert_eq!(backbone[name].size(), shape, "{name}");
    }
    assert!(!backbone.contains_key("layer1.1.downsample.0.weight"));
}

#[test]
fn lunet_has_the_papers_size() {
    let vs = store();
    LuNet::new(&Scope::root(&vs, 0), 128, 64, 1).unwrap();
    // "5.00 M"; which convolutions have a bias isn't published, and without any it is this.
    assert_eq!(trainable_parameters(&vs), 4_994_432);
}

#[test]
fn lunets_maps_are_those_of_table_9() {
    let chain = |h: i64, w: i64, shrink: i64| {
        let vs = store();
        let net = LuNet::new(&Scope::root(&vs, 0), h, w, shrink).unwrap();
        let maps = tch::no_grad(|| net.maps(&drawn(1, &[1, 3, h, w]), false));
        let shapes: Vec<Vec<i64>> = maps.iter().map(|m| m.size()[1..].to_vec()).collect();
        (shapes, vs.variables()["head.hidden.weight"].size())
    };
    let table = |h: i64, w: i64| -> Vec<Vec<i64>> {
        [
            (1, 128), // 1 convolution
            (1, 128),
            (2, 128), // 3 pool
            (2, 128),
            (2, 128),
            (2, 256),
            (4, 256), // 7 pool
            (4, 256),
            (4, 256),
            (8, 256), // 10 pool
            (8, 256),
            (8, 256),
            (8, 512),
            (16, 512), // 14 pool
            (16, 512),
            (16, 512),
            (32, 512), // 17 pool
            (32, 128),
        ]
        .map(|(d, c)| vec![c, h / d, w / d])
        .to_vec()
    };
    assert_eq!(chain(128, 64, 1), (table(128, 64), vec![512, 1024]));
    assert_eq!(chain(64, 32, 1), (table(64, 32), vec![512, 256]));
    assert_eq!(chain(32, 96, 32).1, [16, 4 * 3]);
}

#[test]
fn lunet_refuses_what_it_cannot_be() {
    for (h, w, shrink, says) in [
        (100, 64, 1, "100x64"),
        (128, 0, 1, "128x0"),
        (-32, 32, 1, "-32x32"),
        (128, 64, 0, "not by 0"),
        (128, 64, 3, "not by 3"),
        (128, 64, -2, "not by -2"),
        (128, 64, 64, "not by 64"),
    ] {
        let vs = store();
        let error = LuNet::new(&Scope::root(&vs, 0), h, w, shrink).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(vs.is_empty());
    }
}

#[test]
fn either_memory_layout_gives_the_same() {
    let x = drawn(4, &[3, 3, 64, 32]);
    let other = channels_last(&x);
    assert_eq!(other, x);
    assert_eq!(other.stride(), [64 * 32 * 3, 1, 32 * 3, 3]);
    let (mut a, mut b) = (store(), store());
    let nets: [Box<dyn Network>; 2] =
        [Box::new(TriNet::new(&Scope::root(&a, 7))), Box::new(LuNet::new(&Scope::root(&b, 7), 64, 32, 4).unwrap())];
    // In f64, where rounding can't be taken for a mistake: batch statistics over few pixels enlarge it.
    a.double();
    b.double();
    let (x, other) = (x.to_kind(Kind::Double), channels_last(&x.to_kind(Kind::Double)));
    for net in &nets {
        for train in [false, true] {
            let (one, two) = tch::no_grad(|| (net.forward(&x, train), net.forward(&other, train)));
            assert_eq!(one.size(), [3, net.width()]);
            close(&two, &one, 1e-9);
        }
    }
}

#[test]
fn gradients_reach_every_parameter_and_match_in_both_layouts() {
    let vs = store();
    let net = LuNet::new(&Scope::root(&vs, 7), 64, 32, 8).unwrap();
    let x = drawn(4, &[4, 3, 64, 32]);
    let gradients = |x: &Tensor| {
        let loss = net.forward(x, true).square().mean(None::<Kind>);
        Tensor::run_backward(&[loss], &vs.trainable_variables(), false, false)
    };
    for (one, two) in gradients(&x).iter().zip(&gradients(&channels_last(&x))) {
        assert!(one.abs().max().double_value(&[]) > 0.0);
        close(two, one, 1e-3);
    }
}

#[test]
fn leaky_relu_is_leaky_by_its_slope() {
    for slope in [0.0, 0.3] {
        let x = Tensor::from_slice(&[-2.0_f64, -0.5, 0.0, 3.0]).set_requires_grad(true);
        let y = rankle::models::layers::leaky_relu_(&x * 1.0, slope);
        assert_eq!(Vec::<f64>::try_from(&y).unwrap(), [-2.0 * slope, -0.5 * slope, 0.0, 3.0]);
        y.sum(None::<Kind>).backward();
        assert_eq!(Vec::<f64>::try_from(x.grad()).unwrap(), [slope, slope, slope, 1.0]);
    }
}

#[test]
fn a_bias_before_batch_normalisation_is_left_out_and_known() {
    let bias = || Tensor::from_slice(&[0.5_f32, -2.]).set_requires_grad(true);
    let x = drawn(3, &[4, 2, 3, 3]);
    let through = |left_out: bool| {
        let (vs, bias) = (store(), bias());
        let bn = Scope::root(&vs, 0).batch_norm("bn", 2);
        let with = &x + bias.view([1, 2, 1, 1]);
        let pass = || if left_out { bn.of_biased(&x, &bias) } else { bn.forward(&with, true) };
        let y = pass() + pass(); // as a siamese network does, before any backward pass
        (&y * drawn(4, &[4, 2, 3, 3])).sum(Kind::Float).backward();
        let all = vs.variables();
        let stands = ["bn.running_mean", "bn.running_var"].map(|name| all[name].copy());
        let slopes = ["bn.weight", "bn.bias"].map(|name| all[name].grad());
        (y, stands, slopes, bias.grad())
    };
    for synchronised in [false, true] {
        if synchronised {
            rankle::models::layers::synchronise_batch_norm(Tensor::shallow_clone); // a world of one
        }
        let ((y, stands, slopes, none), plain) = (through(true), through(false));
        all_close(&y, &plain.0, 1e-5);
        stands.iter().chain(&slopes).zip(plain.1.iter().chain(&plain.2)).for_each(|(a, b)| all_close(a, b, 1e-5));
        assert_eq!(value(&none.abs().max()), 0.);
        assert!(value(&plain.3.abs().max()) < 1e-5);
    }
}

#[test]
fn batch_normalisation_learns_its_statistics() {
    let vs = store();
    let bn = Scope::root(&vs, 0).batch_norm("bn", 2);
    let x = drawn(9, &[3, 2, 4, 5]);
    let y = bn.forward(&x, true);
    for c in 0..2 {
        let v = Vec::<f32>::try_from(x.select(1, c).contiguous().flatten(0, -1)).unwrap();
        let n = v.len() as f64;
        let mean = v.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = v.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        let running = |what: &str| vs.variables()[what].double_value(&[c]);
        assert!((running("bn.running_mean") - 0.1 * mean).abs() < 1e-6);
        assert!((running("bn.running_var") - (0.9 + 0.1 * square / (n - 1.0))).abs() < 1e-6);
        let expected = (f64::from(v[0]) - mean) / (square / n + 1e-5).sqrt();
        assert!((y.double_value(&[0, c, 0, 0]) - expected).abs() < 1e-5);
    }
    // Evaluation uses them and leaves them.
    let before = vs.variables()["bn.running_mean"].copy();
    let z = bn.forward(&x, false);
    assert_eq!(vs.variables()["bn.running_mean"], before);
    let var = vs.variables()["bn.running_var"].double_value(&[1]);
    let expected = (x.double_value(&[2, 1, 3, 4]) - before.double_value(&[1])) / (var + 1e-5).sqrt();
    assert!((z.double_value(&[2, 1, 3, 4]) - expected).abs() < 1e-5);
}

#[test]
fn a_parameter_starts_by_its_seed_and_name_alone() {
    let (a, b, c) = (store(), store(), store());
    let (at, other) = (Scope::root(&a, 3), Scope::root(&b, 3));
    at.conv("x", 3, 8, 3, 1, 1);
    at.linear("y", 5, 6, Init::GlorotUniform { gain: 1.0 }, true);
    other.linear("y", 5, 6, Init::GlorotUniform { gain: 1.0 }, true);
    other.batch_norm("z", 4);
    other.conv("x", 3, 8, 3, 1, 1);
    Scope::root(&c, 4).conv("x", 3, 8, 3, 1, 1);
    for name in ["x.weight", "y.weight"] {
        assert_eq!(a.variables()[name], b.variables()[name], "{name}");
    }
    assert_ne!(a.variables()["x.weight"], c.variables()["x.weight"]);
    // Two parameters of one shape differ.
    let (x, y) = (Init::HeNormal.values(3, "x", &[4, 4]), Init::HeNormal.values(3, "y", &[4, 4]));
    assert_ne!(x, y);
    // Batch normalisation starts as the identity (tch's own draws its weights).
    assert_eq!(b.variables()["z.weight"], Tensor::ones([4], (Kind::Float, Device::Cpu)));
    assert_eq!(b.variables()["z.running_var"], Tensor::ones([4], (Kind::Float, Device::Cpu)));
    assert_eq!(b.variables()["z.bias"], Tensor::zeros([4], (Kind::Float, Device::Cpu)));
    assert_eq!(a.variables()["y.bias"], Tensor::zeros([6], (Kind::Float, Device::Cpu)));
}

#[test]
fn initial_values_have_the_distributions_they_name() {
    let moments = |values: &[f32]| {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let fourth = values.iter().map(|&v| (f64::from(v) - mean).powi(4)).sum::<f64>() / n;
        (mean, var, fourth / (var * var))
    };
    // 3 blocks and a rest; fan_in 9 * 64 = 576.
    let he = Init::HeNormal.values(1, "w", &[341, 64, 3, 3]);
    assert_eq!(he.len(), 341 * 576);
    let (mean, var, kurtosis) = moments(&he);
    let std = (2.0_f64 / 576.0).sqrt();
    assert!(mean.abs() < 0.01 * std, "{mean}");
    assert!((var.sqrt() / std - 1.0).abs() < 0.01, "{var}");
    assert!((kurtosis - 3.0).abs() < 0.06, "{kurtosis}");
    let blocks: Vec<&[f32]> = he.chunks(1 << 16).collect();
    assert_ne!(blocks[0][..64], blocks[1][..64]);

    let bound = 2.0 * (6.0_f64 / (300.0 + 200.0)).sqrt();
    let glorot = Init::GlorotUniform { gain: 2.0 }.values(1, "w", &[300, 200]);
    let (mean, var, kurtosis) = moments(&glorot);
    let largest = glorot.iter().fold(0.0_f64, |a, &v| a.max(f64::from(v).abs()));
    assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.999 * bound, "{largest}");
    assert!(mean.abs() < 0.01 * bound, "{mean}");
    assert!((var / (bound * bound / 3.0) - 1.0).abs() < 0.02, "{var}");
    assert!((kurtosis - 1.8).abs() < 0.03, "{kurtosis}");
    assert_eq!(Init::Constant(2.5).values(1, "w", &[3]), [2.5; 3]);
    assert_eq!(Init::HeNormal.values(1, "w", &[1, 3]).len(), 3);
}

#[test]
#[should_panic(expected = "declared twice")]
fn two_variables_of_one_name_are_refused() {
    let vs = store();
    let at = Scope::root(&vs, 0);
    at.batch_norm("bn", 2);
    at.batch_norm("bn", 2);
}
