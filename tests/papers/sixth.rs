//! Dimensionality Reduction by Learning an Invariant Mapping.
//! R. Hadsell, S. Chopra, Y. LeCun. CVPR 2006. The contrastive loss, on faces: what a further paper takes.

use rankle::datasets::{drawn, faces::FaceSet};
use rankle::models::FaceSmall;
use rankle::paper::prelude::*;
use rankle::sampler::PkSampler;
use rankle::tasks::{faces, people};

/// Pixels a side.
const SIDE: u32 = 32;

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    /// The drawn faces
    #[arg(long, value_name = "drawn", default_value = "drawn", value_parser = ["drawn"], add = Ours, help_heading = Heading::Data)]
    data: String,
    /// Margin m
    #[arg(long, default_value_t = 1., value_parser = positive, add = At("Eq. 4"), help_heading = Heading::Loss)]
    margin: f64,
    /// People a batch, four faces each
    #[arg(long, default_value_t = 12, value_parser = within(2..=1000_usize), add = Ours, help_heading = Heading::Batches)]
    people: usize,
    /// Steps
    #[arg(long, default_value_t = 120, value_parser = count, add = Ours, help_heading = Heading::Optimisation)]
    steps: u64,
}

impl Hyper for Flags {
    const NAMED: &'static [&'static str] = &["data", "margin", "seed"];
}

struct Contrastive;

impl Paper for Contrastive {
    const NAME: &'static str = "sixth";
    const CITATION: &'static str = "Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping";
    const DEPARTURES: &'static [&'static str] = &["the faces are drawn; the paper has digits"];
    const SEES: Option<Sees<Self>> = Some(|_, _| (Recipe::imagenet(SIDE, SIDE), TestViews::Original));
    type Hyper = Flags;
    type Scoring = NoScoring;
    type Data = FaceSet;
    type Shape = ();
    type Net = FaceSmall;

    fn open(_: &Flags, _: u64) -> Result<FaceSet> {
        Ok(drawn::faces())
    }

    fn network(_: &Flags, _: &(), _: &str, store: &VarStore, run: &Run) -> Result<FaceSmall> {
        FaceSmall::new(&Scope::root(store, run.seed), SIDE.into(), 32, 4)
    }

    fn plan(h: &Flags, _: &FaceSet, _: &str, _: &Run) -> Result<Plan> {
        Ok(Plan { steps: h.steps, rule: Rule::ADAM, weight_decay: 0. })
    }

    fn train(h: &Flags, set: &FaceSet, _: &str, net: &FaceSmall, session: &mut Session, run: &Run) -> Result<()> {
        let who: Vec<i64> = set.train.iter().map(|photo| photo.person).collect();
        let pk = PkSampler::new(&who, h.people, 4, run.seed("sampler")).context("--people: say fewer")?;
        let rows: (usize, people::Sampler) = (4, Box::new(move |t| pk.batch(t)));
        let mut loader =
            people::batches(&set.train, Recipe::imagenet(SIDE, SIDE), Augment::CropFlip, rows, session.steps(), run)?;
        while let Some(batch) = loader.next() {
            let batch = batch?;
            let x = run.autocast(|| net.forward(&batch.images(run), true)); // G_W(X)
            let x = run.world().gather(&x, &batch.shares)?;
            let tally = contrastive(&x, &batch.labels, h.margin);
            let loss = tally.mean();
            session.descend(&loss, 1e-3)?;
            let done = Done { step: batch.step, loss: &loss, images: x.size()[0], waited: loader.waited() };
            session.after(done, || (stats::tally(batch.step, &loss, &tally, json!({})), None))?;
        }
        Ok(())
    }

    fn evaluate(_: &Flags, set: &FaceSet, nets: &Nets<'_, Self>, _: &NoScoring, run: &Run) -> Result<Evaluation> {
        let how = people::embedding(Recipe::imagenet(SIDE, SIDE), TestViews::Original, run);
        let x = how.photos(&nets.only()?, &set.test, "embed")?;
        let scores = faces::judge(set, &x, faces::Variant::Plain, 1e-3)?.scores(1e-3);
        Ok(Evaluation { scores, ..Evaluation::default() })
    }
}

/// Eq. 4 over all pairs of rows: ½D² of one person, ½[m - D]₊² of two.
fn contrastive(x: &Tensor, labels: &Tensor, margin: f64) -> Tally {
    let d = Metric::Euclidean.matrix(x, x);
    let same = labels.to_device(x.device()).unsqueeze(1).eq_tensor(&labels.to_device(x.device()).unsqueeze(0));
    let terms = d.square().where_self(&same, &(margin - &d).relu().square()) / 2.;
    Tally::over(&terms, Some(&d.ones_like().triu(1).to_kind(Kind::Bool))) // every pair once
}

rankle::program!(Contrastive);
