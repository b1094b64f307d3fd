//! Face networks: parameter counts of the sheet, layers beside plain loops, outputs beside PyTorch's.

use rankle::models::Network;
use rankle::models::inception::{GoogLeNet, InceptionResnetV1, Nn1, Nn2, l2_pool, local_response_norm, maxout};
use rankle::models::layers::Scope;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::store;
use crate::common::{all_close, close, gradient, matrix, trainable_parameters, value};
use crate::export::{answers_alike, drawn, python_agrees, used};

/// Numbers in matrices and kernels, which the papers count; without biases and normalisation.
fn weights(vs: &VarStore) -> usize {
    vs.trainable_variables().iter().filter(|x| x.dim() > 1).map(Tensor::numel).sum()
}

#[test]
fn parameter_counts_are_the_sheets() {
    let vs = store();
    Nn1::new(&Scope::root(&vs, 1), 220, 128, 1, false).expect("fits");
    // Table 1, row by row: 7x7, 1x1 and 3x3 kernels, then fc1 and fc2 of two pieces, fc7128.
    let kernels = 9_408 + 4_096 + 110_592 + 36_864 + 663_552 + 147_456 + 884_736 + 2 * (65_536 + 589_824);
    assert_eq!(weights(&vs), kernels + 12_544 * 8_192 + 4_096 * 8_192 + 4_096 * 128);
    assert_eq!((weights(&vs) as f64 / 1e6).round(), 140.);
    for (batch_norm, count) in [(false, None), (true, Some(7_472_144))] {
        let vs = store();
        Nn2::new(&Scope::root(&vs, 1), 224, 128, 1, batch_norm).expect("fits");
        assert_eq!(weights(&vs), 7_448_256);
        count.into_iter().for_each(|count| assert_eq!(trainable_parameters(&vs), count));
    }
    let vs = store();
    Nn2::nn4(&Scope::root(&vs, 1), 96, 128, 1, true).expect("fits");
    assert_eq!(trainable_parameters(&vs), 6_959_088);
    for trained in [false, true] {
        let vs = store();
        Nn2::small2(&Scope::root(&vs, 1), 96, 128, 1, trained).expect("fits");
        assert_eq!(trainable_parameters(&vs), 3_733_968);
    }
    let vs = store();
    InceptionResnetV1::new(&Scope::root(&vs, 1), 160, 512, 1).expect("fits");
    assert_eq!(trainable_parameters(&vs), 23_482_624);
    let vs = store();
    GoogLeNet::new(&Scope::root(&vs, 1), 224, 128, 1).expect("fits");
    // torchvision's 6,624,904 without its classes, and the embedding.
    assert_eq!(trainable_parameters(&vs), 6_624_904 - 1000 * 1025 + 128 * 1024);
}

#[test]
fn layers_equal_plain_loops() {
    let x = matrix(1, 2, 7 * 5 * 4).view([2, 7, 5, 4]) * 30.;
    let normed = local_response_norm(&x);
    let pooled = [(1, 1), (2, 1), (3, 0)].map(|(stride, padding)| (stride, padding, l2_pool(&x, stride, padding)));
    let at = |b: i64, c: i64, y: i64, z: i64| x.double_value(&[b, c, y, z]);
    for b in 0..2 {
        for c in 0..7 {
            for y in 0..5 {
                for z in 0..4 {
                    let sum: f64 = ((c - 2).max(0)..(c + 3).min(7)).map(|k| at(b, k, y, z).powi(2)).sum();
                    close(normed.double_value(&[b, c, y, z]), at(b, c, y, z) / (1. + 1e-4 / 5. * sum).powf(0.75), 1e-9);
                }
            }
            for (stride, padding, pooled) in &pooled {
                for y in 0..pooled.size()[2] {
                    for z in 0..pooled.size()[3] {
                        let mut sum = 0.;
                        for (dy, dz) in (0..9).map(|k| (k / 3, k % 3)) {
                            let (row, column) = (y * stride + dy - padding, z * stride + dz - padding);
                            if (0..5).contains(&row) && (0..4).contains(&column) {
                                sum += at(b, c, row, column).powi(2);
                            }
                        }
                        close(pooled.double_value(&[b, c, y, z]), sum.sqrt(), 1e-9);
                    }
                }
            }
        }
    }
    assert_eq!(pooled.each_ref().map(|p| p.2.size()[2]), [5, 3, 1]);
    let pieces = Tensor::from_slice(&[1., -2., 3., 0.5, 4., -7.]).view([1, 6]);
    assert_eq!(Vec::<f64>::try_from(maxout(&pieces).flatten(0, -1)).expect("numbers"), [1., 4., 3.]);
    // Windows of zeros have no slope.
    let zeros = Tensor::zeros([1, 1, 5, 5], (Kind::Float, Device::Cpu));
    let slope = gradient(&zeros, |x| l2_pool(x, 1, 1).sum(Kind::Float));
    assert_eq!(value(&slope.abs().sum(Kind::Double)), 0.);
    assert_eq!(local_response_norm(&(zeros + 500.)).isfinite().all().int64_value(&[]), 1);
    let normed = local_response_norm(&(Tensor::ones([1, 9, 1, 1], (Kind::BFloat16, Device::Cpu)) * 30.));
    assert_eq!(normed.kind(), Kind::BFloat16);
    let half =
        local_response_norm(&(Tensor::ones([1, 9, 1, 1], (Kind::Float, Device::Cpu)) * 1000.).to_kind(Kind::Half));
    assert_eq!(half.isfinite().all().int64_value(&[]), 1);
    close(value(&normed.min()), 30. / (1. + 1e-4 * 900_f64).powf(0.75), 0.1);
}

/// Every network small, under a name.
pub(super) fn small(vs: &VarStore, which: usize) -> (&'static str, i64, Box<dyn Network>) {
    let at = Scope::root(vs, 3);
    match which {
        0 => ("NN1", 40, Box::new(Nn1::new(&at, 40, 16, 16, false).expect("fits"))),
        1 => ("NN1 with BN", 41, Box::new(Nn1::new(&at, 41, 16, 16, true).expect("fits"))),
        2 => ("NN2", 40, Box::new(Nn2::new(&at, 40, 16, 8, false).expect("fits"))),
        3 => ("NN4 with BN", 33, Box::new(Nn2::nn4(&at, 33, 16, 3, true).expect("fits"))),
        4 => ("nn4.small2", 96, Box::new(Nn2::small2(&at, 96, 16, 8, false).expect("fits"))),
        5 => ("nn4.small2 as trained", 96, Box::new(Nn2::small2(&at, 96, 16, 2, true).expect("fits"))),
        6 => ("GoogLeNet", 64, Box::new(GoogLeNet::new(&at, 64, 16, 4).expect("fits"))),
        _ => ("Inception-ResNet-v1", 80, Box::new(InceptionResnetV1::new(&at, 80, 16, 4).expect("fits"))),
    }
}

#[test]
fn every_network_gives_unit_rows_and_every_parameter_a_gradient() {
    for which in 0..8 {
        let vs = store();
        let (name, size, net) = small(&vs, which);
        let images = drawn(4, &[3, 3, size, size]);
        let x = net.forward(&images, true);
        assert_eq!((x.size(), net.width()), (vec![3, 16], 16), "{name}");
        let length = x.square().sum_dim_intlist(1, false, Kind::Double);
        all_close(&length, &Tensor::ones([3], (Kind::Double, Device::Cpu)), 1e-5);
        (x * matrix(5, 3, 16).to_kind(Kind::Float)).sum(Kind::Float).backward();
        for (variable, x) in vs.variables().into_iter().filter(|(_, x)| x.requires_grad()) {
            assert!(x.grad().defined() && x.grad().isfinite().all().int64_value(&[]) == 1, "{name}: {variable}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let vs = store();
    let at = Scope::root(&vs, 1);
    assert!(Nn1::new(&at.sub("a"), 8, 8, 1, false).is_err() && Nn2::new(&at.sub("b"), 31, 8, 1, false).is_err());
    assert!(
        Nn2::new(&at.sub("c"), 64, 8, 17, false).is_err() && InceptionResnetV1::new(&at.sub("d"), 74, 8, 1).is_err()
    );
    assert!(Nn2::small2(&at.sub("e"), 33, 8, 8, true).is_err());
}

#[test]
fn python_finds_all_of_the_face_networks() {
    let all = [0, 3, 5, 6, 7].map(|which| {
        let vs = store();
        let (_, size, net) = small(&vs, which);
        used(&vs);
        (vs, net, [size, size])
    });
    python_agrees(&all.each_ref().map(|(vs, net, size)| (vs, &**net, *size, &[] as &[[i64; 2]])));
}

/// Both published networks, from the sheet's tables, in PyTorch.
const AGAIN: &str = r#"
def basic(x, name, stride=1, padding=0):
    return F.relu(bn(F.conv2d(x, w(name + ".conv.weight"), None, stride, padding), name + ".bn", 1e-3))
def up(x, parts, name, scale, relu=True):
    y = x + scale * F.conv2d(torch.cat(parts, 1), w(name + ".conv2d.weight"), w(name + ".conv2d.bias"))
    return F.relu(y) if relu else y
def resnet(x):
    x = basic(x, "conv2d_1a", 2); x = basic(x, "conv2d_2a"); x = basic(x, "conv2d_2b", 1, 1)
    x = F.max_pool2d(x, 3, 2)
    x = basic(x, "conv2d_3b"); x = basic(x, "conv2d_4a"); x = basic(x, "conv2d_4b", 2)
    for i in range(5):
        n = f"repeat_1.{i}"
        x = up(x, [basic(x, n + ".branch0"),
                   basic(basic(x, n + ".branch1.0"), n + ".branch1.1", 1, 1),
                   basic(basic(basic(x, n + ".branch2.0"), n + ".branch2.1", 1, 1), n + ".branch2.2", 1, 1)], n, 0.17)
    x = torch.cat([basic(x, "mixed_6a.branch0", 2),
                   basic(basic(basic(x, "mixed_6a.branch1.0"), "mixed_6a.branch1.1", 1, 1), "mixed_6a.branch1.2", 2),
                   F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        n = f"repeat_2.{i}"
        x = up(x, [basic(x, n + ".branch0"),
                   basic(basic(basic(x, n + ".branch1.0"), n + ".branch1.1", 1, (0, 3)), n + ".branch1.2", 1, (3, 0))], n, 0.10)
    n = "mixed_7a"
    x = torch.cat([basic(basic(x, n + ".branch0.0"), n + ".branch0.1", 2),
                   basic(basic(x, n + ".branch1.0"), n + ".branch1.1", 2),
                   basic(basic(basic(x, n + ".branch2.0"), n + ".branch2.1", 1, 1), n + ".branch2.2", 2),
                   F.max_pool2d(x, 3, 2)], 1)
    for n in [f"repeat_3.{i}" for i in range(5)] + ["block8"]:
        last = n == "block8"
        x = up(x, [basic(x, n + ".branch0"),
                   basic(basic(basic(x, n + ".branch1.0"), n + ".branch1.1", 1, (0, 1)), n + ".branch1.2", 1, (1, 0))],
               n, 1.0 if last else 0.20, not last)
    x = x.mean((2, 3)) @ w("last_linear.weight").T
    return F.normalize(bn(x, "last_bn", 1e-3))

def unit(x, conv, norm, stride=1, padding=0):
    return F.relu(bn(F.conv2d(x, w(conv + ".weight"), w(conv + ".bias"), stride, padding), norm, 1e-5))
def lrn(x):
    return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
def module(x, name, has5, projected, has1, stride, l2, window):
    b = f"{name}.branches."
    place = 0
    parts = []
    for kernel in [3, 5] if has5 else [3]:
        n = f"{b}{place}."
        parts.append(unit(unit(x, n + "0", n + "1"), n + "3", n + "4", stride, kernel // 2))
        place += 1
    s, p = window
    y = torch.sqrt(9 * F.avg_pool2d(x * x, 3, s, p)) if l2 else F.max_pool2d(x, 3, s, p)
    if projected:
        y = unit(y, f"{b}{place}.1", f"{b}{place}.2")
    d = parts[0].shape[2] - y.shape[2]
    parts.append(F.pad(y, (d // 2, d - d // 2, d // 2, d - d // 2)))
    place += 1
    if has1:
        parts.append(unit(x, f"{b}{place}.0", f"{b}{place}.1"))
    return torch.cat(parts, 1)
def small2(x, trained):
    x = lrn(F.max_pool2d(unit(x, "conv1", "bn1", 2, 3), 3, 2, 1))
    x = lrn(unit(unit(x, "conv2", "bn2"), "conv3", "bn3", 1, 1))
    x = F.max_pool2d(x, 3, 2, 1)
    pool = lambda defined, other: other if trained else defined
    x = module(x, "incept3a", True, True, True, 1, False, pool((1, 1), (2, 0)))
    x = module(x, "incept3b", True, True, True, 1, True, pool((1, 1), (3, 0)))
    x = module(x, "incept3c", True, False, False, 2, False, pool((2, 1), (2, 0)))
    x = module(x, "incept4a", True, True, True, 1, True, pool((1, 1), (3, 0)))
    x = module(x, "incept4e", True, False, False, 2, False, pool((2, 1), (2, 0)))
    x = module(x, "incept5a", False, True, True, 1, True, pool((1, 1), (3, 0)))
    x = module(x, "incept5b", False, True, True, 1, False, pool((1, 1), (2, 0)))
    assert x.shape[1:] == (736, 3, 3), x.shape
    return F.normalize(F.linear(F.avg_pool2d(x, 3).flatten(1), w("ln.weight"), w("ln.bias")))

y = {"resnet": resnet, "defined": lambda x: small2(x, False), "trained": lambda x: small2(x, True)}[which](x)
"#;

#[test]
fn published_networks_answer_as_pytorch_does() {
    for which in ["resnet", "defined", "trained"] {
        let vs = store();
        let at = Scope::root(&vs, 9);
        let (size, net): (i64, Box<dyn Network>) = match which {
            "resnet" => (160, Box::new(InceptionResnetV1::new(&at, 160, 512, 1).expect("fits"))),
            _ => (96, Box::new(Nn2::small2(&at, 96, 128, 1, which == "trained").expect("fits"))),
        };
        answers_alike(AGAIN, which, &vs, &*net, &drawn(6, &[2, 3, size, size]));
    }
}
