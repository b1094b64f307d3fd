//! Our side of `scripts/bench`: losses and mining, forward and backward, on inputs that the peers get too.
//!
//! `cargo bench --bench losses -- '^NAME$'` measures one case with criterion. The inputs come from the folder in
//! `RANKLE_BENCH` (`scripts/bench` writes it); without it there is nothing to measure, which is said. With
//! `RANKLE_BENCH_ONCE=NAME` the case runs once without criterion: its loss and gradient are written beside the inputs, and the
//! memory that it took above what was there before is printed.

use std::path::{Path, PathBuf};

use criterion::Criterion;
use serde_json::Value;
use tch::Tensor;

mod kinds;

/// Forward and backward; the loss and the gradient.
fn step(kind: &str, x: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    let x = x.detach().set_requires_grad(true);
    let value = kinds::loss(kind, &x, labels).expect("a loss");
    value.backward();
    (value.detach(), x.grad())
}

struct Case {
    name: String,
    kind: String,
    x: Tensor,
    labels: Tensor,
}

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let list: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json"))?)?;
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or_default().to_string();
    let mut found = Vec::new();
    for case in list.as_array().into_iter().flatten() {
        let name = text(case, "name");
        let tensors = rankle::weights::read(&folder.join(format!("{name}.safetensors")))?;
        let get = |wanted: &str| {
            let tensor = tensors.iter().find(|(known, _)| known == wanted).map(|(_, tensor)| tensor.shallow_clone());
            tensor.ok_or_else(|| anyhow::anyhow!("{name} has no {wanted}"))
        };
        found.push(Case { kind: text(case, "kind"), x: get("x")?, labels: get("labels")?, name: name.clone() });
    }
    Ok(found)
}

/// A line of /proc/self/status in KiB; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// One run: what it gives, and how far memory rose above what was resident before.
fn once(folder: &Path, name: &str) -> anyhow::Result<()> {
    let case = cases(folder)?.into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| anyhow::anyhow!("no case {name}"))?;
    // The libraries' first use takes memory of its own.
    let few = case.x.narrow(0, 0, 16.min(case.x.size()[0]));
    let _ = step(&case.kind, &few, &case.labels.narrow(0, 0, few.size()[0]));
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    let (value, gradient) = step(&case.kind, &case.x, &case.labels);
    let rise = status("VmHWM").saturating_sub(before);
    let out = folder.join(format!("{name}.ours.safetensors"));
    rankle::weights::save(&out, &[("loss".into(), value), ("gradient".into(), gradient)], None)?;
    println!("{{\"memory_kib\": {rise}}}");
    Ok(())
}

fn main() {
    let Some(folder) = std::env::var_os("RANKLE_BENCH").map(PathBuf::from) else {
        println!("nothing to measure: scripts/bench writes the inputs and says where (RANKLE_BENCH)");
        return;
    };
    let threads = std::env::var("OMP_NUM_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    tch::set_num_threads(threads);
    if let Ok(name) = std::env::var("RANKLE_BENCH_ONCE") {
        if let Err(error) = once(&folder, &name) {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    let cases = match cases(&folder) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
    };
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases {
        criterion.bench_function(&case.name, |bencher| bencher.iter(|| step(&case.kind, &case.x, &case.labels)));
    }
    criterion.final_summary();
}
