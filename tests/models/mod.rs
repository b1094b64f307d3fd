//! The networks against nested loops, their published sizes, and what training and export rely on.

mod eigenfaces;
mod face_small;
mod fold;
mod inception;
mod label;
mod layers;
mod lunet;
mod normal;
mod parity;
mod quadruplet;
mod resnet;
mod snippet;
mod winograd;

use std::collections::HashMap;

use rand::Rng;
use rankle::models::layers::Scope;
use rankle::models::{LuNet, Network, TriNet, channels_last};
use rankle::seed;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::export::drawn;

fn store() -> VarStore {
    VarStore::new(Device::Cpu)
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
