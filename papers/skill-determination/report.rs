//! The page: ranking with thumbnails, score over time, the graph of pairs and its errors by separation.

use super::*;
use rankle::run::report::graph::{Edge, Node};
use rankle::run::report::{Frame, GalleryRow, Report, Series, Table, Tile};

/// Pictures of a video in its row.
const PICTURES: usize = 6;

/// Every video by the networks that did not see it: the fold that held it out, its scores standardised over all videos.
/// Videos that no trained fold holds out are left out.
struct Held {
    /// Standardised f(p) and that of every snippet, by video.
    videos: Vec<(usize, f64, Vec<f64>)>,
}

impl Held {
    fn new(set: &SkillSet, scored: &Scored, alpha: f64) -> Held {
        let mut videos = Vec::new();
        for (place, (fold, by_stream)) in scored.folds.iter().enumerate() {
            let f = scored.f(place, alpha, usize::MAX, Taken::Start);
            let mean = f.iter().sum::<f64>() / f.len() as f64;
            let deviation = (f.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f.len() as f64).sqrt().max(1e-12);
            for &video in &set.folds[*fold].held {
                let snippets = (0..by_stream[0][video].len()).map(|i| {
                    let fused = match (&scored.streams[..], &by_stream[..]) {
                        ([_, _], [spatial, temporal]) => alpha * spatial[video][i] + (1. - alpha) * temporal[video][i],
                        _ => by_stream[0][video][i],
                    };
                    (fused - mean) / deviation
                });
                videos.push((video, (f[video] - mean) / deviation, snippets.collect()));
            }
        }
        videos.sort_by(|a, b| b.1.total_cmp(&a.1));
        Held { videos }
    }

    fn of(&self, video: usize) -> Option<f64> {
        self.videos.iter().find(|one| one.0 == video).map(|one| one.1)
    }
}

/// Writes `report.html` into the run folder.
pub fn write(
    at: &Path,
    h: &Hyper,
    world: &World,
    machine: &Machine,
    scored: &Scored,
    scoring: &flags::Scoring,
    results: &Results,
) -> Result<()> {
    let set = &world.set;
    let mut report = Report::new(PAPER, &results.citation);
    report.facts(&h.facts(set, machine));
    report.table("Scores", "", &results.score_table());
    let why = results.comparable.as_ref().err().map_or("", String::as_str);
    report.table("Beside the paper", why, &results.claim_table(""));
    report.list("Protocol", &results.protocol);

    let held = Held::new(set, scored, scoring.alpha);
    for task in &set.tasks {
        let inside: Vec<_> = held.videos.iter().filter(|one| task.videos.contains(&one.0)).collect();
        let mut rows = Vec::new();
        if let Some(clips) = &world.clips {
            for (place, (video, f, _)) in inside.iter().enumerate() {
                let clip = &clips[*video];
                let tile = |i: usize| {
                    let frame = i * (clip.frames() - 1) / (PICTURES - 1);
                    Ok(Tile { image: (*clip.frame(frame)?).clone(), caption: frame.to_string(), frame: Frame::None })
                };
                let tiles = (0..PICTURES).map(tile).collect::<Result<_>>()?;
                rows.push(GalleryRow { title: format!("{}. {} ({f:+.2})", place + 1, set.videos[*video]), tiles });
            }
        }
        let note = "From best to worst; each video scored by the networks that did not see it, in deviations from those networks' mean over all videos. Frames from the first to the last.";
        report.gallery(&format!("Ranking: {}", task.name), note, &rows);

        let series: Vec<Series> = inside.iter().enumerate().map(|(place, one)| over_time(set, place, one)).collect();
        let values = || series.iter().flat_map(|one| one.points.iter().map(|point| point.1));
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let note = format!(
            "Every video from its first frame to its last, best first: the scores of its snippets, each the mean of five neighbours. All on one scale, {low:+.2} to {high:+.2}; dashed: 0, those networks' mean over all videos."
        );
        report.small_lines(&format!("Score over time: {}", task.name), &note, &series);
        report.table(&format!("Score by split: {}", task.name), "", &by_splits(set, h, &inside));

        let depths = task.graph.depths();
        let nodes: Vec<Node> = task
            .videos
            .clone()
            .zip(&depths)
            .map(|(video, &depth)| Node { name: set.videos[video].clone(), column: depth })
            .collect();
        let pairs: Vec<(usize, usize)> = task.graph.pairs().collect();
        let edges: Vec<Edge> = pairs
            .iter()
            .zip(task.graph.separation(&pairs))
            .filter(|(_, separation)| *separation == Some(1))
            .map(|(&(a, b), _)| {
                let score = |video: usize| held.of(video + task.videos.start);
                Edge { from: a, to: b, right: score(a).zip(score(b)).map(|(a, b)| a > b) }
            })
            .collect();
        let note = "Better videos to the left, by depth; only pairs with nothing between them are drawn. Solid: ranked right by the scores above; dashed: wrong.";
        report.graph(&format!("Graph of pairs: {}", task.name), note, &nodes, &edges);
    }

    let bins = scored.by_separation(set, scoring.alpha);
    let row = |(n, &(right, all)): (usize, &(usize, usize))| {
        let share = if all == 0 { "–".into() } else { format!("{:.1}", 100. * right as f64 / all as f64) };
        vec![(n + 1).to_string(), all.to_string(), (all - right).to_string(), share]
    };
    let head = ["separation", "test pairs", "errors", "accuracy %"].map(String::from).to_vec();
    let table = Table { head, rows: bins.iter().enumerate().map(row).collect() };
    report.table(
        "Errors by separation",
        "Separation: the length of the longest path from the better to the worse video.",
        &table,
    );

    let mut curves = Vec::new();
    for (fold, _) in &scored.folds {
        for &stream in &h.streams {
            let path = part_folder(at, *fold, stream).join("log.jsonl");
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let points = lines.filter_map(|line| Some((line.get("step")?.as_f64()?, line.get("mean")?.as_f64()?)));
            curves.push(Series { name: format!("fold {} {}", fold + 1, stream.name()), points: points.collect() });
        }
    }
    report.lines("Loss", "The mean over a batch's samples.", "step", "loss", &curves);
    report.list("Departures from the paper", &results.departures);
    report.write(&at.join("report.html"))
}

/// The scores of a video's snippets over the share of it that is past, smoothed.
fn over_time(set: &SkillSet, place: usize, (video, f, snippets): &(usize, f64, Vec<f64>)) -> Series {
    let smooth = |i: usize| {
        let near = &snippets[i.saturating_sub(2)..(i + 3).min(snippets.len())];
        near.iter().sum::<f64>() / near.len() as f64
    };
    let points = (0..snippets.len()).map(|i| ((i as f64 + 0.5) / snippets.len() as f64, smooth(i))).collect();
    Series { name: format!("{}. {} ({f:+.2})", place + 1, set.videos[*video]), points }
}

/// The splits' mean scores of a task's videos, best first.
fn by_splits(set: &SkillSet, h: &Hyper, inside: &[&(usize, f64, Vec<f64>)]) -> Table {
    let splits = h.splits.min(inside.iter().map(|one| one.2.len()).min().unwrap_or(1));
    let head = ["video".to_string(), "score".into()].into_iter().chain((1..=splits).map(|k| format!("split {k}")));
    let row = |(video, f, snippets): &&(usize, f64, Vec<f64>)| {
        let splits = by_split(snippets, splits).into_iter().map(|x| format!("{x:+.2}"));
        [set.videos[*video].clone(), format!("{f:+.2}")].into_iter().chain(splits).collect()
    };
    Table { head: head.collect(), rows: inside.iter().map(row).collect() }
}
