//! Beyond triplet loss: a deep quadruplet network for person re-identification.
//! W. Chen, X. Chen, J. Zhang, K. Huang. CVPR 2017, arXiv 1704.01719.
//!
//! ```text
//! cargo run --release --bin quadruplet -- train --data data/cuhk03/labeled --weights data/weights/alexnet-owt-7be5be79.pth
//! cargo run --release --bin quadruplet -- evaluate --run data/runs/quadruplet/cuhk03-labeled-alexnet-quadruplet-margohnm-1
//! ```
//!
//! should reach rank-1, 5, 10 of 75.53, 95.15, 99.16 % on CUHK03 (Table 1), and on its training set pairs of one person at a mean
//! distance of 0.000374 and of two people at 0.99746 (Figure 5). What it did reach stands in papers/quadruplet.md.

use std::path::PathBuf;

use rankle::datasets::{Layout, Photo, ReidSet, Split};
use rankle::losses::quadruplet::{self, Dissimilarity, MarginGradient, Margins};
use rankle::losses::{Margin, triplet};
use rankle::models::quadruplet::{Backbone, Compares, QuadrupletNet, Regroup, Start};
use rankle::paper::prelude::*;
use rankle::tasks::before::Before;
use rankle::tasks::pairs::{self, Comparison, Distances, Order};
use rankle::tasks::reid::{self, Draws, ReidData};
use rankle::{study, transfer::upload};

// ---- Hyperparameters: the default and the place are the paper's ------------------------------------

/// The seven models of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Model {
    /// BL1, Triplet(Embedding): squared distance of unit embeddings (Eq. 1)
    TripletEmbedding,
    /// BL2, Triplet(Learned Metric): one unbounded unit (Eq. 2)
    TripletLearnedMetric,
    /// Triplet(Improved w/o sfx): the softmax of two units, without the softmax loss
    TripletWithoutSfx,
    /// Triplet(Improved): with the softmax loss (Section 3.2)
    TripletImproved,
    /// Quadruplet, fixed margins, with the softmax loss (Eq. 3)
    Quadruplet,
    /// BL3, Classification: pairs told apart, no ranking (Eq. 7)
    Classification,
    /// Quadruplet+MargOHNM: then adaptive margins (Eq. 4)
    QuadrupletMargohnm,
}
use Classifier::{Contrastive, CrossEntropy};
use Model::*;

impl Model {
    /// What the outputs of fc8 say of a pair (Figure 2).
    fn by(self) -> Dissimilarity {
        match self {
            TripletEmbedding => Dissimilarity::Embedding,
            TripletLearnedMetric => Dissimilarity::Unbounded,
            _ => Dissimilarity::Softmax,
        }
    }

    /// Whether the softmax loss stands beside the ranking loss (Section 3.2).
    fn has_softmax_loss(self) -> bool {
        matches!(self, TripletImproved | Quadruplet | QuadrupletMargohnm)
    }

    /// Whether a fourth image takes part.
    fn takes_quadruplets(self) -> bool {
        matches!(self, Quadruplet | QuadrupletMargohnm)
    }

    /// Pairs that a quadruplet's or a triplet's loss compares; the tuple has one image more.
    fn pairs(self) -> usize {
        if self.takes_quadruplets() { 3 } else { 2 }
    }
}

/// What BL3, the pairwise network, is trained by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Classifier {
    /// g² of one person's pairs, [α - g²]₊ of two people's (Eq. 7)
    Contrastive,
    /// The softmax loss alone
    CrossEntropy,
}

#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    data: ReidData,
    /// Model
    #[arg(long, value_enum, default_value_t = QuadrupletMargohnm, add = At("Table 1"), help_heading = Heading::Network)]
    model: Model,
    /// Layers
    #[arg(long, value_enum, default_value_t = Backbone::Alexnet, add = At("Section 5.1; which AlexNet is ours"))]
    net: Backbone,
    /// ImageNet weights for conv1 and conv2, .pth or .safetensors by torchvision's names (features.0 and features.3), or none
    #[arg(long, value_name = "FILE|none", add = At("Section 5.1"))]
    weights: Option<String>,
    /// Start from the weights of this run instead, or, of a table's folder, of its run of the same model, as small sets may from CUHK03's
    #[arg(long, value_name = "DIR", conflicts_with = "weights", add = Ours)]
    start: Option<PathBuf>,
    /// How a pair's maps enter conv3, "regroup"
    #[arg(long, value_enum, default_value_t = Regroup::Channels, add = At("Figure 3"))]
    pairing: Regroup,
    /// First values of the layers that no weights fill
    #[arg(long, value_enum, default_value_t = Start::Gaussian, add = OursAs("the authors' sibling code has Gaussian ones"))]
    init: Start,
    /// Input height x width in pixels
    #[arg(long, value_name = "HxW", default_value_t = Size(227, 227), add = At("Section 5.1"))]
    size: Size,
    /// Dropout of what enters fc6 and fc7, as torchvision's AlexNet; with --net caffe and caffe-alexnet of what leaves them, as the authors' sibling code
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = within(0. ..=0.999), add = At("not in the paper; taken for it"))]
    dropout: f64,
    /// Margin of the triplet models and of the contrastive loss
    #[arg(long, add = At("not in the paper; taken for it"), help_heading = Heading::Loss, value_name = "ALPHA", default_value_t = 1., value_parser = within(0. ..=1e6))]
    margin: f64,
    /// Fixed margins alpha1,alpha2 of the quadruplet models
    #[arg(long, value_name = "A1,A2", default_value = "1,0.5", value_parser = hyper::two, add = At("Eq. 3, Section 5.1"))]
    margins: [f64; 2],
    /// Adaptive margins are these times the difference of the means
    #[arg(long, value_name = "W1,W2", default_value = "1,0.5", value_parser = hyper::two, add = At("Eq. 4, Section 3.3"))]
    adaptive: [f64; 2],
    /// What the adaptive margins do to the gradient
    #[arg(long, value_enum, default_value_t = MarginGradient::Detach, add = At("Eq. 5"))]
    margin_gradient: MarginGradient,
    /// Weight of the softmax loss, the cross-entropy of a pair's two units
    #[arg(long, value_name = "WEIGHT", default_value_t = 1., value_parser = within(0. ..=1e6), add = At("Section 3.2; its weight is ours"))]
    softmax_loss: f64,
    /// Loss of --model classification
    #[arg(long, value_enum, default_value_t = Contrastive, add = At("Eq. 7"))]
    classifier: Classifier,
    /// Quadruplets (or triplets) a batch, M
    #[arg(long, add = At("Section 5.1"), help_heading = Heading::Batches, value_name = "M", default_value_t = 128, value_parser = within(1..=16_384_usize))]
    quadruplets: usize,
    /// Draw pairs without a look at cameras; else two cameras see every pair
    #[arg(long, add = At("not in the paper"))]
    any_camera: bool,
    /// Walk through a shuffled list of all pairs of two cameras, both directions, ten negatives each, as the authors' sibling code, instead of drawing
    #[arg(long, conflicts_with = "any_camera", add = Ours)]
    listed: bool,
    /// Learning rate of the first stage
    #[arg(long, add = At("Section 5.1"), help_heading = Heading::Optimisation, default_value_t = 1e-3, value_parser = positive)]
    lr: f64,
    /// Learning rate of the second stage, a tenth of --lr where that is given
    #[arg(long, default_value_t = 1e-4, value_parser = positive, add = At("not in the paper; taken for it"))]
    lr2: f64,
    /// Share of a stage after which its rate is a tenth; 1 keeps it
    #[arg(long, value_name = "SHARE", default_value_t = 1., value_parser = within(0. ..=1.), add = At("not in the paper; taken for it"))]
    tenth_after: f64,
    /// Steps with fixed margins; the authors' sibling code takes 200,000 on CUHK03 and 20,000 more on a small set
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = count, add = At("not in the paper; taken for it"))]
    steps: u64,
    /// Then steps with adaptive margins, as many where --steps is given
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = count, add = At("not in the paper; taken for it"))]
    steps2: u64,
}

impl Hyper for Flags {
    const AXES: &'static [&'static str] = &["model"];
    const LENGTH: &'static [&'static str] = &["steps", "steps2"];
    const NAMED: &'static [&'static str] = &["data", "?start", "?test-people", "?split", "net", "model", "seed"];
    const PRESETS: &'static [fn(&mut Flags)] = &[
        |h| h.data.data = "data/cuhk03/labeled".into(),
        |h| h.net = if h.data.data == "drawn" { Backbone::Small } else { h.net },
        |h| {
            if h.net == Backbone::Small {
                // At 0.02 some seeds of a learned metric saturate at once, or run away where g has no bound.
                h.lr = if h.model == TripletEmbedding { 0.02 } else { 0.005 };
                (h.size, h.dropout, h.quadruplets, h.init) = (Size(64, 32), 0., 32, Start::He);
                (h.lr2, h.steps, h.steps2, h.tenth_after) = (0.002, 300, 150, 0.6);
            }
        },
    ];
    const FOLLOW: &'static [Follow<Flags>] = &[("lr", |h| h.lr2 = h.lr / 10.), ("steps", |h| h.steps2 = h.steps)];
    const IDLE: &'static [Idle<Flags>] = &[
        (&["pairing", "order"], |h| h.model != TripletEmbedding),
        (&["margin"], |h| !h.model.takes_quadruplets() && (h.model, h.classifier) != (Classification, CrossEntropy)),
        (&["margins"], |h| h.model.takes_quadruplets()),
        (&["adaptive", "margin-gradient", "lr2", "steps2"], |h| h.model == QuadrupletMargohnm),
        (&["softmax-loss"], |h| h.model.has_softmax_loss()),
        (&["classifier"], |h| h.model == Classification),
    ];

    fn claimed(self) -> Flags {
        Flags { net: if self.net.is_caffe() { Backbone::Alexnet } else { self.net }, ..self }
    }

    /// The kernels of the first two convolution layers alone come from ImageNet (Section 5.1).
    fn weights(&self) -> Weights {
        match (self.net, &self.start) {
            (Backbone::Small, _) => Weights::None,
            (net, None) if net.is_caffe() => Weights::Must(Published::CAFFE_CONV2),
            (_, None) => Weights::Must(Published::ALEXNET_CONV2),
            _ => Weights::May(Published::ALEXNET_CONV2),
        }
    }
}

impl Flags {
    /// The run to start from, of a table's folder that of the same model, and those that it goes back to.
    fn before(&self) -> Before {
        Before::of(self.start.as_deref(), "model", &shown(self, "model"))
    }
}

/// How pairs are compared in tests.
#[derive(Args, Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scoring {
    /// Random galleries of one image a person, averaged, for single-shot CMC; or the first photos, as in sibling code
    #[arg(long, value_name = "N|first", default_value_t = Draws::Random(10), add = Ours, help_heading = Heading::Scoring)]
    draws: Draws,
    /// Training pairs of each kind whose mean distance is taken, as in Figure 5
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = within(2..=1_000_000_usize), add = Ours, help_heading = Heading::Scoring)]
    pairs: usize,
    /// Which orders of a pair are compared; triplet-embedding has none
    #[arg(long, value_enum, default_value_t = Order::Both, add = Ours, help_heading = Heading::Export)]
    order: Order,
}

// ---- Sections 3 and 5.1: losses and rates --------------------------------------------------------------------------

/// What a step of training came to: the distances of the three (two) kinds of pairs, `[M]` each, what is minimised.
struct Step {
    g: Vec<Tensor>,
    tally: Tally,
    loss: Tensor,
    adaptive: Option<Margins>,
}

/// The loss of a batch at step `t` (Eq. 1 to 4), of which `images` are this process's share.
fn step(h: &Flags, net: &QuadrupletNet, images: &Tensor, t: u64, run: &Run) -> Result<Step> {
    let (images, world, kinds) = (channels_last(images), run.world(), h.model.pairs() as i64);
    let shares = world.shares(h.quadruplets, 1)?;
    let dropping = |parts: i64, work: &dyn Fn() -> Tensor| pairs::dropping(run, t, parts, h.quadruplets, &shares, work);
    if h.model == TripletEmbedding {
        let x = dropping(3, &|| net.forward(&images, true)); // f(x), unit rows
        let x = pairs::gather_parts(world, &x, 3, &shares)?.chunk(3, 0);
        let [ij, ik] = [1, 2].map(|other: usize| Metric::SquaredEuclidean.paired(&x[0], &x[other]));
        let tally = triplet::hinge(&ij, &ik, Margin::Hard(h.margin)); // Eq. 1
        return Ok(Step { loss: tally.mean(), tally, g: vec![ij, ik], adaptive: None });
    }
    let (left, right) = pairs::random_orders(h.model.pairs(), h.quadruplets, shares.own(), run.seed, t);
    let (left, right) = (upload(&left, images.device()), upload(&right, images.device()));
    let outputs = dropping(kinds, &|| {
        let maps = net.maps(&images, true); // conv1-2, an image once
        net.pair(&maps.index_select(0, &left), &maps.index_select(0, &right), true)
    });
    let outputs = pairs::gather_parts(world, &outputs, kinds, &shares)?;
    let g = h.model.by().g(&outputs).chunk(kinds, 0); // g_ij, g_ik, g_lk
    let softmax_loss = || quadruplet::same_or_different(&outputs, kinds);
    let [margins, adaptive] = [h.margins, h.adaptive].map(<(f64, f64)>::from);
    let (tally, adaptive) = match h.model {
        QuadrupletMargohnm if t >= h.steps => {
            let (tally, margins) = quadruplet::adaptive_pairs(&g[0], &g[1], &g[2], adaptive, h.margin_gradient);
            (tally, Some(margins)) // Eq. 4
        }
        Quadruplet | QuadrupletMargohnm => (quadruplet::pairs(&g[0], &g[1], &g[2], margins), None), // Eq. 3
        Classification if h.classifier == CrossEntropy => (softmax_loss(), None),
        Classification => (quadruplet::contrastive(&g[0], &g[1], h.margin), None), // Eq. 7
        _ => (quadruplet::triplet(&g[0], &g[1], h.margin), None),                  // Eq. 2
    };
    let mut loss = tally.mean();
    if h.model.has_softmax_loss() && h.softmax_loss > 0. {
        loss = &loss + softmax_loss().mean() * h.softmax_loss;
    }
    Ok(Step { g, tally, loss, adaptive })
}

/// The line of a logged step, and what the watch over collapse reads where margins stand still.
fn log_line(h: &Flags, t: u64, Step { g, tally, loss, adaptive }: &Step) -> (Value, Option<Reading>) {
    let mut rates = json!({"lr": rate(h, t)});
    if h.model.takes_quadruplets() {
        let numbers = |m: &Margins| [m.strong.double_value(&[]), m.weak.double_value(&[])];
        rates["stage"] = json!(1 + u64::from(t >= h.steps));
        rates["margins"] = json!(adaptive.as_ref().map_or(h.margins, numbers));
    }
    let line = stats::joined(stats::tally(t, loss, tally, rates), pairs::batch_line(g, h.model.by()));
    let collapsed = if h.model.takes_quadruplets() { h.margins[0] + h.margins[1] } else { h.margin };
    let stands = adaptive.is_none() && !matches!(h.model, TripletEmbedding | Classification);
    (line.clone(), stands.then(|| Reading::of_metric(&line, collapsed)))
}

/// Learning rate at step `t`: `lr`, then `lr2` in the second stage, each a tenth after `tenth_after` of its stage.
fn rate(h: &Flags, t: u64) -> f64 {
    let (base, into, of) = if t < h.steps { (h.lr, t, h.steps) } else { (h.lr2, t - h.steps, h.steps2) };
    if (into as f64) < h.tenth_after * of as f64 { base } else { base / 10. }
}

fn comparison(h: &Flags, how: &Scoring, run: &Run) -> Comparison {
    Comparison::new(h.net, (h.size.0, h.size.1), h.model.by(), how.order, run)
}

struct QuadrupletPaper;

impl Paper for QuadrupletPaper {
    const NAME: &'static str = "quadruplet";
    const CITATION: &'static str = "Chen, Chen, Zhang, Huang: Beyond triplet loss: a deep quadruplet network for person re-identification, CVPR 2017, arXiv 1704.01719";
    const START: &'static [(&'static str, &'static str)] =
        &[("20 test sets", "reproduce --splits 1-20 --weights FILE")];
    const USES: &'static [Use] = &[reid::SEARCH];
    const DEPARTURES: &'static [&'static str] = &[
        "the loss is the mean over the quadruplets of a batch; Eq. 3 writes their sum",
        "a batch's number counts quadruplets (Eq. 4 has N_p = M); the three identities of one differ pairwise, as under Eq. 3",
        "the paper doesn't say how pairs are drawn: here anew for each batch, people before images, by two cameras unless --any-camera; the authors' sibling code has a list (--listed)",
        "\"fourfold by mirroring\" is an independent mirroring of every image with probability one half",
        "the second stage starts at a tenth of the first one's rate; the paper gives neither a schedule nor a number of steps",
        "momentum and decay are those of the authors' sibling code, and hold for biases too, where it doubles the rate and has no decay",
        "photos are squashed to the input at once; the authors' sibling code first makes them 64x128 (CUHK03), 60x160 (CUHK01) or 48x128 (VIPeR) and saves them as JPEG",
        "rank-k is the mean over random galleries, unless --draws first; the paper's cells fit one gallery (Table 1)",
        "whether the paper's CUHK03 is of labelled or of detected boxes is not said",
    ];
    #[rustfmt::skip] // a line a sentence
    const DEPARTURES_WHERE: &'static [Departure<Flags>] = &[
        (|h| h.net == Backbone::Alexnet, "layers, widths and dropout are those of torchvision's AlexNet: one tower, RGB by ImageNet's mean and deviation, no response normalisation"),
        (|h| h.net.is_caffe(), "widths, dropout, and BGR from 0 to 255 are those of the authors' sibling code; the paper gives none"),
        (|h| h.init == Start::Gaussian, "first values are those of the authors' sibling code; the paper gives none"),
        (|h| h.net == Backbone::Small, "a small network of ours with batch normalisation; the paper's is AlexNet"),
        (|h| h.start.is_some(), "--start: all layers start from another run's, as the authors' sibling code has CUHK01 and VIPeR start from CUHK03; whether the paper does is not said"),
        (|h| h.model.by() != Dissimilarity::Softmax, "Figure 5's distances lie in [0, 1], the paper does not say how: here squared distances of unit rows from 0 to 4, or |g| in units of the largest"),
        (|h| h.model != TripletEmbedding, "\"regroup\" is taken for a concatenation of channels, unless --pairing width"),
        (|h| h.model != TripletEmbedding, "the order of a pair is random in training; in tests what pairs are ranked by, g's logit or |g|, is averaged over both orders unless --order says otherwise"),
        (|h| h.model.by() == Dissimilarity::Softmax, "pairs are ranked by g's logit, which doesn't tie as g does"),
        (|h| h.model == QuadrupletMargohnm, "no gradient flows through margins, unless --margin-gradient eq5"),
        (|h| !h.model.takes_quadruplets(), "the paper gives no margin"),
        (|h| h.model.has_softmax_loss(), "the paper gives the softmax loss no weight"),
    ];
    #[rustfmt::skip]
    const UNLIKE: &'static [Unlike<Self>] = &[
        (|h, _| h.data.split == Split::NewProtocol, "this is CUHK03's new protocol, which is younger than the paper"),
        (|h, _| h.data.validation > 0, "these are held-out training people"),
        (|h, _| h.net == Backbone::Small, "--net small is a network of ours"),
        (|h, set| h.start.is_some() && set.layout == Layout::Cuhk03, "--start: the paper's network on CUHK03 starts from ImageNet's first two layers"),
        (|h, _| h.start.is_some() && !h.before().is_one_of(Layout::Cuhk03), "--start: the run that this one starts from is not one of CUHK03 which started from none"),
    ];
    type Hyper = Flags;
    type Scoring = Scoring;
    type Data = ReidSet;
    type Shape = ();
    type Net = QuadrupletNet;

    fn open(h: &Flags, seed: u64) -> Result<ReidSet> {
        h.before().apart(h.data.open(seed)?, &h.data)
    }

    fn elsewhere(own: &Flags, other: &Flags, seed: u64) -> Result<ReidSet> {
        own.before().apart(own.data.elsewhere(&other.data, seed)?, &other.data)
    }

    // ---- Section 3.2: the networks --------------------------------------------------------------------------------

    /// Figure 2: per image (a), or two convolutions per image and the rest per pair (b, c).
    fn network(h: &Flags, _: &(), _: &str, store: &VarStore, run: &Run) -> Result<QuadrupletNet> {
        let input = if h.model == TripletEmbedding { Compares::Image } else { Compares::Pair(h.pairing) };
        let (at, size, units) = (Scope::root(store, run.seed), h.size, h.model.by().units());
        let net = QuadrupletNet::new(&at, h.net, input, (size.0.into(), size.1.into()), units, h.dropout, h.init);
        net.with_context(|| format!("--size {size}"))
    }

    fn start(h: &Flags) -> Result<Option<PathBuf>> {
        h.before().checkpoint()
    }

    /// Refuses photos that give no quadruplet before the run's folder is claimed.
    fn parts(h: &Flags, set: &ReidSet) -> Result<Vec<String>> {
        pairs::sampler(set, h.quadruplets, h.any_camera, h.listed, 0).map(|_| vec![String::new()])
    }

    // ---- Section 5.1: training ------------------------------------------------------------------------------------

    fn plan(h: &Flags, _: &ReidSet, _: &str, _: &Run) -> Result<Plan> {
        let steps = h.steps + u64::from(h.model == QuadrupletMargohnm) * h.steps2;
        Ok(Plan { steps, rule: Rule::Sgd { momentum: 0.9 }, weight_decay: 5e-4 })
    }

    fn train(h: &Flags, set: &ReidSet, _: &str, net: &QuadrupletNet, session: &mut Session, run: &Run) -> Result<()> {
        if run.leads() {
            reid::write_split(session.at(), set, h.data.split, session.steps().start > 0)?;
        }
        let sampler = pairs::sampler(set, h.quadruplets, h.any_camera, h.listed, run.seed("sampler"))?;
        let (images, recipe) = (h.model.pairs() + 1, pairs::recipe(h.net, (h.size.0, h.size.1)));
        let mut loader = pairs::batches(&set.train, recipe, sampler, images, session.steps(), run)?;
        while let Some(batch) = loader.next() {
            let (t, pixels, left_out) = batch?;
            let now = step(h, net, &upload(&pixels, run.machine.device), t, run)?;
            session.descend(&now.loss, rate(h, t))?;
            session.left_out(|| left_out)?;
            let count = images * h.quadruplets;
            let done = Done { step: t, loss: &now.loss, images: count as i64, waited: loader.waited() };
            session.after(done, || log_line(h, t, &now))?;
        }
        Ok(())
    }

    // ---- Section 5: evaluation ------------------------------------------------------------------------------------

    fn evaluate(h: &Flags, set: &ReidSet, nets: &Nets<'_, Self>, how: &Scoring, run: &Run) -> Result<Evaluation> {
        comparison(h, how, run).evaluate(&nets.only()?, set, how.draws, (how.pairs, !h.any_camera), run)
    }

    fn embed(h: &Flags, nets: &Nets<'_, Self>, of: &Brought, how: &Scoring, run: &Run) -> Result<Rows> {
        comparison(h, how, run).photos(&nets.only()?, of)
    }

    fn search(nets: &Nets<'_, Self>, [q, g]: [&[Photo]; 2], how: &Scoring, run: &Run) -> Result<Option<pairs::Ranked>> {
        comparison(&nets.h.own, how, run).search(&nets.only()?, q, g)
    }

    fn about(h: &Flags, _: &(), _: &str, _: &Scoring) -> About {
        pairs::about(pairs::recipe(h.net, (h.size.0, h.size.1)), h.model.by())
    }

    fn export(h: &Flags, net: &QuadrupletNet, how: &Scoring, inputs: &[Tensor]) -> Tensor {
        match inputs {
            [a, b] => pairs::compared(net, a, b, h.model.by(), how.order),
            _ => net.forward(&inputs[0], false),
        }
    }

    // ---- The paper's numbers --------------------------------------------------------------------------------------

    #[rustfmt::skip]
    const CLAIMS: &'static [Claims<Flags, Scoring>] = &[
        Claims {
            unit: 100., metrics: &["rank-1", "rank-5", "rank-10"],
            columns: &[
                ("CUHK03", "single shot", as_usual), ("CUHK01", "single shot", as_usual),
                ("CUHK01, 100 test people", "single shot", as_usual), ("VIPeR", "single shot", as_usual),
            ],
            rows: &[
                ("Table 1", "", BL1.1, &[&[60.13, 90.51, 95.15], &[44.24, 67.08, 77.57], &[63.50, 80.00, 89.50], &[28.16, 52.22, 65.19]]),
                ("Table 1", "", BL2.1, &[&[61.60, 92.41, 97.47], &[58.74, 80.35, 88.07], &[77.00, 94.00, 97.50], &[40.19, 70.25, 82.91]]),
                ("Table 1", "", BARE.1, &[&[70.25, 95.97, 98.10], &[58.85, 82.61, 88.37], &[77.50, 95.00, 96.50], &[44.30, 72.47, 80.06]]),
                ("Table 1", "", TRI.1, &[&[72.78, 95.97, 97.68], &[59.26, 82.41, 88.27], &[78.00, 95.50, 98.00], &[44.30, 71.84, 81.96]]),
                ("Table 1", "", QUAD.1, &[&[74.47, 96.62, 98.95], &[62.55, 83.02, 88.79], &[79.00, 96.00, 97.00], &[48.42, 74.05, 84.49]]),
                ("Table 1", "", BL3.1, &[&[68.35, 93.46, 97.47], &[58.74, 79.01, 87.14], &[76.50, 94.00, 97.00], &[44.30, 69.94, 81.96]]),
                ("Table 1", "", as_usual, &[&[75.53, 95.15, 99.16], &[62.55, 83.44, 89.71], &[81.00, 96.50, 98.00], &[49.05, 73.10, 81.96]]),
            ],
        },
        Claims {
            unit: 1., metrics: &["same person: mean distance", "different people: mean distance"],
            columns: &[("CUHK03", "training pairs,", as_usual)],
            rows: &[
                ("Figure 5", "", BL1.1, &[&[0.051118, 0.51677]]), ("Figure 5", "", BL2.1, &[&[0.054675, 0.34093]]),
                ("Figure 5", "", BARE.1, &[&[0.005917, 0.97232]]), ("Figure 5", "", TRI.1, &[&[0.001109, 0.98242]]),
                ("Figure 5", "", QUAD.1, &[&[0.000793, 0.98959]]), ("Figure 5", "", as_usual, &[&[0.000374, 0.99746]]),
            ],
        },
    ];

    #[rustfmt::skip]
    const STUDIES: &'static [Study<Flags, Scoring>] = &[
        Study {
            columns: &[
                ("CUHK03", |h, _| h.data.data = "data/cuhk03/labeled".into()), ("CUHK01", |h, _| h.data.data = "data/cuhk01".into()),
                ("CUHK01, 100 test people", |h, _| (h.data.data, h.data.test_people) = ("data/cuhk01".into(), Some(100))),
                ("VIPeR", |h, _| h.data.data = "data/VIPeR".into()),
            ],
            sheets: &[Sheet::of("Single-shot rank-1/rank-5/rank-10, per cent", &[
                ("", &["single shot rank-1", "single shot rank-5", "single shot rank-10"]),
            ])], ..TABLE_1
        },
        TABLE_1,
        Study {
            name: "fig5", title: "Figure 5", says: in_the_expected_order,
            rows: &[BL1, BL2, BARE, TRI, QUAD, OHNM],
            sheets: &[
                Sheet { unit: 1., digits: 6, bars: true, ..Sheet::of("Mean distance of training pairs; the figure is of CUHK03's training set", &[("same person", &[Distances::MEANS[0]]), ("different people", &[Distances::MEANS[1]])]) },
                Sheet { unit: 1., digits: 3, ..Sheet::of("Standard deviation over training pairs", &[("same person", &[Distances::SPREADS[0]]), ("different people", &[Distances::SPREADS[1]])]) },
                RANKS,
            ],
            ..Study::PLAIN
        },
    ];
}

/// Table 1 on the data set of `--data`.
#[rustfmt::skip]
const TABLE_1: Study<Flags, Scoring> = Study {
    name: "1", title: "Table 1", says: rank_rises,
    rows: &[BL3, BL1, BL2, BARE, TRI, QUAD, OHNM], sheets: &[RANKS],
    ..Study::PLAIN
};
type Row = study::Row<Flags, Scoring>;
// The rows of Table 1: a name there, and the flag that makes it. BL3 stands apart from the others' order; Figure 5 lacks it.
const BL3: Row = ("Classification", |h, _| h.model = Classification, &[]);
const BL1: Row = ("Triplet(Embedding)", |h, _| h.model = TripletEmbedding, &[]);
const BL2: Row = ("Triplet(Learned Metric)", |h, _| h.model = TripletLearnedMetric, &[]);
const BARE: Row = ("Triplet(Improved w/o sfx)", |h, _| h.model = TripletWithoutSfx, &[]);
const TRI: Row = ("Triplet(Improved)", |h, _| h.model = TripletImproved, &[]);
const QUAD: Row = ("Quadruplet", |h, _| h.model = Quadruplet, &[]);
const OHNM: Row = ("Quadruplet+MargOHNM", |h, _| h.model = QuadrupletMargohnm, &[]);

/// Table 1's single-shot ranks, and our mAP in the whole gallery.
#[rustfmt::skip]
const RANKS: Sheet = Sheet::of("Ranking of test people, per cent", &[
    ("rank-1", &["single shot rank-1"]), ("rank-5", &["single shot rank-5"]),
    ("rank-10", &["single shot rank-10"]), ("whole gallery mAP", &["whole gallery mAP"]),
]);

/// What Table 1 leads to expect of rank-1.
fn rank_rises(grid: &Grid) -> Vec<String> {
    let what = "single-shot rank-1 never falls from row to row (Table 1)";
    grid.ordered(&[BL1, BL2, BARE, TRI, QUAD, OHNM], what, "single shot rank-1", true).into_iter().collect()
}

/// What the figure and the text lead to expect: from "w/o sfx" on, where one distance is measured.
fn in_the_expected_order(grid: &Grid) -> Vec<String> {
    let list = [
        ("distance of one person falls from w/o sfx to MargOHNM (Figure 5)", Distances::MEANS[0], false),
        ("distance of two people rises from w/o sfx to MargOHNM (Figure 5)", Distances::MEANS[1], true),
        ("its spread for one person falls (Figure 5)", Distances::SPREADS[0], false),
        ("its spread for two people falls (Figure 5)", Distances::SPREADS[1], false),
    ];
    let check = |(what, score, rises)| grid.ordered(&[BARE, TRI, QUAD, OHNM], what, score, rises);
    list.into_iter().filter_map(check).chain(rank_rises(grid)).collect()
}

rankle::program!(QuadrupletPaper);
