//! What several processes share: losses, and the parts of evaluations.

use anyhow::{Context, Result, bail};
use rankle::collectives::{PATIENCE, World};
use rankle::distance::{Metric, normalize};
use rankle::losses::{Margin, embedded::Loss};
use rankle::metrics::all_pairs::AllPairs;
use rankle::metrics::retrieval::{Ap, Identity, QueryGallery, Reciprocal, evaluate_reranked, evaluate_streamed};
use rankle::metrics::{clustering, recognition};
use rankle::mining::{Negative, Pick};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{loss, measured, rows};

/// `work` by all processes that the environment speaks of; with several, this one ends here.
fn by_all(world: &World, rounds: usize, mut work: impl FnMut()) -> Result<Value> {
    let found = measured(rounds, || {
        work();
        Ok(Value::Null)
    })?;
    if world.size() > 1 {
        println!("{found}");
        rankle::collectives::finish();
        rankle::collectives::exit(0);
    }
    Ok(found)
}

/// A loss of so many rows, block by block of anchors.
pub fn blocks(name: &str, rounds: usize) -> Result<Value> {
    let world = World::join(Device::Cpu, PATIENCE)?;
    let (kind, rows) = name.rsplit_once('-').context("a loss and a number of rows")?;
    let (of, metric, images) = match kind {
        "batch-hard" => (Loss::BatchHard(Margin::Hard(0.2)), Metric::Euclidean, 8),
        "batch-all" => (Loss::BatchAll(Margin::Hard(0.2)), Metric::Euclidean, 8),
        "lifted" => (Loss::Lifted(0.2), Metric::Euclidean, 8),
        "semi-hard" => (Loss::EveryPair(0.2, Negative::SemiHard(Pick::Nearest)), Metric::SquaredEuclidean, 40),
        other => bail!("no loss {other}"),
    };
    let own = world.clone();
    let mean = move |x: &Tensor, y: &Tensor| own.tally(of, x, y, metric).expect("the others' shares").mean();
    loss(64 * images, images, mean.clone())?();
    by_all(&world, rounds, loss(rows.parse()?, images, mean)?)
}

/// Faces of people with six each, near one another; and whose they are.
fn faces(count: i64) -> (Tensor, Vec<i64>) {
    let people: Vec<i64> = (0..count).map(|row| row / 6).collect();
    let centres = rows(count / 6 + 1).index_select(0, &Tensor::from_slice(&people));
    (normalize(&(centres + rows(count) * 0.7)), people)
}

/// A part of an evaluation: re-ranking at Market-1501's size, 256 queries of a file with half a million more photos, or
/// faces.
pub fn judging(name: &str, rounds: usize) -> Result<Value> {
    let world = World::join(Device::Cpu, PATIENCE)?;
    let own = world.clone();
    let gone = "the others' rows";
    let work: Box<dyn FnMut()> = match name {
        "re-ranking" => {
            let (x, people) = faces(3_368 + 15_913);
            let who: Vec<Identity> = people
                .iter()
                .enumerate()
                .map(|(row, &p)| Identity { person: p % 751 + 1, camera: row as i64 % 6 })
                .collect();
            let (q, g) = (x.narrow(0, 0, 3_368), x.narrow(0, 3_368, 15_913));
            Box::new(move || {
                let (asked, shelf) = who.split_at(3_368);
                let of = QueryGallery::new(&q, &g, asked, shelf);
                evaluate_reranked(of, Reciprocal::AUTHORS, Ap::Trapezoid, &own).expect(gone);
            })
        }
        "streamed" => {
            let path = std::env::temp_dir().join(format!("rankle-bench-{}", std::process::id()));
            let (count, width) = (519_732, 2_048);
            let name = path.to_string_lossy();
            let g = Tensor::f_from_file(&name, true, Some(count * width), (Kind::Float, Device::Cpu))?;
            std::fs::remove_file(&path)?;
            let g = g.view([count, width]);
            for mut part in g.split(4_096, 0) {
                let _ = part.normal_(0., 1.);
            }
            let q = g.narrow(0, 0, 256) + 0.1;
            let who = |row: i64| Identity { person: row % 751 + 1, camera: row / 751 % 6 };
            let shelf: Vec<Identity> = (0..count).map(who).collect();
            let asked: Vec<Identity> = (0..256).map(|row| Identity { camera: 6, ..who(row) }).collect();
            Box::new(move || {
                let of = QueryGallery::new(&q, &g, &asked, &shelf);
                let found = evaluate_streamed(of, Metric::Euclidean, Ap::Trapezoid, &own).expect(gone);
                assert_eq!(found.rank(1), 1.);
            })
        }
        "all-pairs" => {
            let (x, people) = faces(13_233);
            Box::new(move || drop(AllPairs::shared(&x, &people, &own).expect(gone)))
        }
        "recognition" => {
            let (x, people) = faces(20_000);
            let gallery = x.narrow(0, 0, 10_000);
            Box::new(move || {
                let metric = Metric::SquaredEuclidean;
                recognition::nearest(&gallery, &people[..10_000], &x, &[5], metric, &own).expect(gone);
            })
        }
        "k-means" => {
            let (x, people) = faces(9_000);
            let k = people[people.len() - 1] as usize + 1;
            Box::new(move || drop(clustering::k_means(&x, k, 1, 5, &own).expect(gone)))
        }
        "linkage" => {
            let x = faces(4_200).0.repeat([1, 32]);
            Box::new(move || drop(clustering::average_linkage_shared(&x, 10., &own, || ()).expect(gone)))
        }
        other => bail!("no evaluation {other}"),
    };
    let warm = rows(1_000);
    drop(Metric::SquaredEuclidean.matrix(&warm, &warm).sum(Kind::Float));
    by_all(&world, rounds, work)
}
