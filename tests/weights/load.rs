//! Tensors into variables.

use std::path::Path;

use rankle::models::layers::Scope;
use rankle::weights::{LoadReport, load_into};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{Named, copies, refusal};

// Into networks.

fn small() -> VarStore {
    let vs = VarStore::new(Device::Cpu);
    let at = Scope::root(&vs, 1);
    at.batch_norm("bn", 2);
    at.linear("fc", 2, 3, rankle::models::layers::Init::HeNormal, true);
    vs
}

#[test]
fn tensors_go_to_their_variables_and_to_nothing_else() {
    let path = Path::new("some.pth");
    let vs = small();
    let filled = |value: f64| {
        copies(&vs).into_iter().map(|(name, x)| (format!("module.{name}"), x.full_like(value))).collect::<Named>()
    };
    let rename =
        |name: &str| (!name.contains("extra")).then(|| name.strip_prefix("module.").unwrap_or(name).to_string());
    let all_are = |value: f64| vs.variables().values().all(|x| x.equal(&x.full_like(value)));

    let mut tensors = filled(2.0);
    tensors.push(("module.bn.num_batches_tracked".into(), Tensor::from(9_i64)));
    tensors.push(("extra.weight".into(), Tensor::from(9.0)));
    let loaded = load_into(&vs, path, tensors, rename, |_| true).unwrap();
    assert_eq!(loaded, LoadReport { copied: 6, dropped: 1, counters: 1, kept: 0 });
    assert!(all_are(2.0));
    assert!(vs.trainable_variables().iter().all(Tensor::requires_grad));
    // Other precisions are converted.
    let half: Named = filled(3.0).into_iter().map(|(name, x)| (name, x.to_kind(Kind::Half))).collect();
    load_into(&vs, path, half, rename, |_| true).unwrap();
    assert!(all_are(3.0) && vs.variables().values().all(|x| x.kind() == Kind::Float));
    // What isn't wanted may be missing and stays.
    let part: Named = filled(4.0).into_iter().filter(|(name, _)| !name.contains("fc")).collect();
    let loaded = load_into(&vs, path, part, rename, |name| !name.starts_with("fc.")).unwrap();
    assert_eq!((loaded.copied, loaded.kept), (4, 2));
    assert!(vs.variables().iter().all(|(name, x)| x.equal(&x.full_like(if name.starts_with("fc.") {
        3.0
    } else {
        4.0
    }))));
    load_into(&vs, path, filled(5.0), rename, |_| true).unwrap();

    let fails = |change: &dyn Fn(&mut Named), says: &[&str]| {
        let mut tensors = filled(6.0);
        change(&mut tensors);
        let error = refusal(load_into(&vs, path, tensors, rename, |_| true), path);
        assert!(says.iter().all(|word| error.contains(word)), "{error}");
        assert!(all_are(5.0), "a refusal changes nothing");
    };
    fails(&|t| t.truncate(0), &["lacks bn.bias, bn.running_mean, bn.running_var and 3 more"]);
    fails(&|t| drop(t.remove(1)), &["lacks bn.running_mean:"]);
    fails(&|t| t.push(("module.x\ny".into(), Tensor::from(1.0))), &["module.x\\ny", "hasn't"]);
    fails(&|t| t[0].1 = Tensor::from(1.0), &["module.bn.bias is [] and should be [2]"]);
    fails(&|t| t[0].1 = Tensor::from_slice(&[1_i64, 2]), &["module.bn.bias is Int64 and should be Float"]);
    fails(&|t| t[0].1 = Tensor::from_slice(&[1.0, f64::NAN]), &["finite", "module.bn.bias"]);
    let variance = |t: &mut Named| {
        let of = t.iter_mut().find(|(name, _)| name.ends_with("running_var"));
        of.expect("one").1 = Tensor::from_slice(&[1.0, -1.0]);
    };
    fails(&variance, &["variances below 0", "running_var"]);
    fails(&|t| t.push(("bn.bias".into(), Tensor::from_slice(&[1.0_f32, 1.0]))), &["two tensors", "bn.bias"]);
}
