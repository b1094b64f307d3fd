//! Data sets with what snippets are made of, what batches are drawn from, and what is read from the snippets' scores,
//! against nested loops.

use rankle::datasets::drawn::Hands;
use rankle::datasets::skills::SkillSet;
use rankle::metrics;
use rankle::tasks::Data;
use rankle::tasks::skill::{
    Inputs, Part, Ranked, SkillData, Taken, VideoScores, brought, by_split, mean_of, places, ranking as ranking_table,
    samples,
};
use rankle::video::snippet::{Crops, Stream};
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, line, made, numbers};
use crate::datasets::epic_skills::judged;

#[test]
fn every_pair_comes_with_every_split_once_a_pass() {
    let all = samples(&[(0, 1), (2, 0)], &[(1, 2)], 3);
    assert_eq!(all.len(), 9);
    for (pair, similar) in [((0, 1), false), ((2, 0), false), ((1, 2), true)] {
        let splits = all.iter().filter(|sample| sample.pair == pair && sample.similar == similar);
        assert_eq!(splits.map(|sample| sample.split).collect::<Vec<_>>(), [(0, 3), (1, 3), (2, 3)]);
    }
    assert_eq!(samples(&[(4, 5)], &[], 1)[0].split, (0, 1));
    // Three passes over nine samples in batches of four: each comes three times, and no pass repeats one.
    let drawn: Vec<usize> = (0..7).flat_map(|step| places(9, 4, 11, step)).collect();
    for pass in drawn.chunks_exact(9) {
        let mut pass = pass.to_vec();
        pass.sort_unstable();
        assert_eq!(pass, (0..9).collect::<Vec<_>>());
    }
    assert_ne!(drawn[..9], drawn[9..18]);
    // A batch is the same whenever it is asked for; one that is larger than a pass goes through several.
    assert_eq!(places(9, 4, 11, 5), drawn[20..24]);
    assert_eq!(places(2, 5, 1, 0).len(), 5);
    assert!(places(0, 4, 1, 0).is_empty());
}

#[test]
fn means_are_of_the_snippets_that_are_asked_for() {
    let scores = [1., 2., 4., 8., 16.];
    assert_eq!(mean_of(&scores, 2, Taken::Start, 0), 1.5);
    assert_eq!(mean_of(&scores, 2, Taken::End, 0), 12.);
    for taken in [Taken::Start, Taken::End, Taken::Random(3)] {
        assert_eq!(mean_of(&scores, 9, taken, 1), 6.2);
    }
    // Two different ones: sums of two powers tell which. All ten pairs come up, and the seed decides.
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let sum = 2. * mean_of(&scores, 2, Taken::Random(seed), 7);
        assert_eq!(sum, 2. * mean_of(&scores, 2, Taken::Random(seed), 7));
        assert_eq!((sum as u32).count_ones(), 2, "{sum}");
        seen.insert(sum as u32);
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(by_split(&[1., 3., 5., 7., 9., 11.], 3), [2., 6., 10.]);
    assert_eq!(by_split(&[2., 4.], 2), [2., 4.]);
}

/// Of the drawn hands.
const VIDEOS: usize = 32;

/// Drawn judgements with drawn scores of ten snippets a video: two streams, folds 1 and 3.
fn drawn() -> (SkillSet, Vec<Vec<Vec<Vec<f64>>>>) {
    let set = Hands::default().set().0;
    let rows = |seed: u64| (0..VIDEOS as u64).map(|video| numbers(100 * seed + video, 10)).collect::<Vec<_>>();
    (set, vec![vec![rows(1), rows(2)], vec![rows(3), rows(4)]])
}

fn scored(streams: &[Stream], scores: &[Vec<Vec<Vec<f64>>>]) -> VideoScores {
    let of = |part: Part| Ok(scores[part.fold / 2][part.stream as usize].clone());
    VideoScores::new(&[0, 2], streams, of).expect("scores")
}

const BOTH: [Stream; 2] = [Stream::Spatial, Stream::Temporal];

/// The longest path from `a` to `b`: every pair relaxed as often as there are videos.
fn longest(pairs: &[(usize, usize)], a: usize, b: usize) -> Option<usize> {
    let mut far = vec![None; VIDEOS];
    far[a] = Some(0);
    for _ in 0..VIDEOS {
        for &(better, worse) in pairs {
            far[worse] = far[worse].max(far[better].map(|length| length + 1));
        }
    }
    far[b]
}

#[test]
fn scores_are_those_of_nested_loops() {
    let (set, raw) = drawn();
    let (alpha, splits, margin) = (0.4, 3, 0.05);
    let named = scored(&BOTH, &raw).named(&set, alpha, splits, margin);
    let mut twin: Vec<(String, f64)> = Vec::new();
    // f(p) = 1/σ Σ_k [α f_s(p^k) + (1 - α) f_t(p^k)], by the snippets of `range`.
    let f = |place: usize, video: usize, alpha: f64, range: std::ops::Range<usize>| {
        let (mut sum, count) = (0., range.len() as f64);
        for k in range {
            sum += alpha * raw[place][0][video][k] + (1. - alpha) * raw[place][1][video][k];
        }
        sum / count
    };
    let folds = [(0, 0), (1, 2)];
    let pooled = |alpha: f64, ranges: &[std::ops::Range<usize>]| {
        let (mut right, mut all) = (0, 0);
        for (place, fold) in folds {
            for &(a, b) in &set.folds[fold].test {
                for range in ranges {
                    all += 1;
                    right += usize::from(f(place, a, alpha, range.clone()) > f(place, b, alpha, range.clone()));
                }
            }
        }
        f64::from(right as u32) / f64::from(all)
    };
    for (name, alpha) in [("spatial", 1.), ("temporal", 0.), ("fused", alpha)] {
        twin.push((name.into(), pooled(alpha, std::slice::from_ref(&(0..10)))));
    }
    twin.push(("fused, single splits".into(), pooled(alpha, &[0..3, 3..6, 6..10])));
    let (mut gaps, mut nears) = (0., 0.);
    for (place, fold) in folds {
        let (mut similar, mut near, mut count) = (0., 0., 0.);
        for (a, b) in set.similar_held(fold) {
            let gap = (f(place, a, alpha, 0..10) - f(place, b, alpha, 0..10)).abs();
            similar += gap;
            near += f64::from(u8::from(gap <= margin));
            count += 1.;
        }
        assert!(count > 0.);
        let test = &set.folds[fold].test;
        let strict: f64 =
            test.iter().map(|&(a, b)| (f(place, a, alpha, 0..10) - f(place, b, alpha, 0..10)).abs()).sum();
        gaps += (similar / count) / (strict / test.len() as f64);
        nears += near / count;
    }
    twin.push(("fused, gap of similar pairs".into(), gaps / 2.));
    twin.push(("fused, similar pairs within the margin".into(), nears / 2.));
    let judged: Vec<(usize, usize)> = set.tasks[0].graph.pairs().collect();
    let mut bins = std::collections::BTreeMap::new();
    for (place, fold) in folds {
        let mut right = 0.;
        for &(a, b) in &set.folds[fold].test {
            let hit = f64::from(u8::from(f(place, a, alpha, 0..10) > f(place, b, alpha, 0..10)));
            right += hit;
            let bin = bins.entry(longest(&judged, a, b).expect("a path")).or_insert((0., 0.));
            *bin = (bin.0 + hit, bin.1 + 1.);
        }
        twin.push((format!("fused, fold {}", fold + 1), right / set.folds[fold].test.len() as f64));
    }
    assert!(bins.len() > 3);
    twin.extend(bins.iter().map(|(n, (right, all))| (format!("fused, separation {n}"), right / all)));
    assert_eq!(named.len(), twin.len());
    for (ours, (name, theirs)) in named.iter().zip(&twin) {
        assert_eq!(ours.name, *name);
        close(ours.value, *theirs, 1e-12);
    }
    let counts: Vec<usize> = scored(&BOTH, &raw).by_separation(&set, alpha).iter().map(|bin| bin.1).collect();
    assert_eq!(counts.iter().sum::<usize>(), folds.iter().map(|(_, fold)| set.folds[*fold].test.len()).sum::<usize>());
}

#[test]
fn the_figures_are_accuracies_at_their_points() {
    let (set, raw) = drawn();
    let all = scored(&BOTH, &raw);
    let at = |alpha: f64, count: usize, taken: Taken| {
        let (mut right, mut pairs) = (0, 0);
        for (place, fold) in [(0, 0), (1, 2)] {
            let f = |video: usize| {
                let [s, t] = [0, 1].map(|stream| mean_of(&raw[place][stream][video], count, taken, video));
                alpha * s + (1. - alpha) * t
            };
            right += set.folds[fold].test.iter().filter(|&&(a, b)| f(a) > f(b)).count();
            pairs += set.folds[fold].test.len();
        }
        right as f64 / pairs as f64
    };
    let alphas = all.by_alpha(&set);
    assert_eq!(alphas.len(), 11);
    for (i, ours) in alphas.iter().enumerate() {
        close(*ours, at(i as f64 / 10., 10, Taken::Start), 1e-12);
    }
    let counts = [1, 3, 10];
    let [(_, start), (_, end), (_, random)] = all.by_count(&set, 0.3, &counts);
    for (i, count) in counts.into_iter().enumerate() {
        close(start[i], at(0.3, count, Taken::Start), 1e-12);
        close(end[i], at(0.3, count, Taken::End), 1e-12);
        close(random[i], (0..20).map(|draw| at(0.3, count, Taken::Random(draw))).sum::<f64>() / 20., 1e-12);
    }
    assert!(start[0] != end[0] && start[0] != random[0] && start[2] == end[2]);
    // One stream: nothing to fuse.
    let alone = scored(&BOTH[1..], &raw);
    assert!(alone.by_alpha(&set).is_empty() && alone.last() == "temporal");
    assert_eq!(alone.accuracy(&set, 0.9, 10, Taken::Start), alphas[0]);
    assert!(alone.named(&set, 0.9, 3, 1.)[1].name == "temporal, single splits");
    // By name, and as tables.
    let (points, tables) = all.figures(&set, 0.3, 4);
    let of = |name: &str| metrics::score(&points, name).expect("a point");
    assert_eq!(
        (of("fused, alpha 0"), of("fused, alpha 0.7"), of("fused, alpha 1")),
        (alphas[0], alphas[7], alphas[10])
    );
    assert_eq!(of("fused, snippets from the end: 3"), end[1]);
    assert_eq!(points.len(), 11 + 2 * 3, "not more snippets than were scored");
    assert_eq!(
        tables.iter().map(|(_, table)| (table.head.len(), table.rows.len())).collect::<Vec<_>>()[..2],
        [(12, 1), (3, 3)]
    );
    assert!(alone.figures(&set, 0.3, 4).1.len() == 2);
}

#[test]
fn a_part_is_its_folder_s_name() {
    for part in [Part { fold: 0, stream: Stream::Spatial }, Part { fold: 11, stream: Stream::Temporal }] {
        assert_eq!(part.to_string().parse::<Part>().expect("a part"), part);
    }
    assert_eq!(Part { fold: 0, stream: Stream::Spatial }.to_string(), "fold-1-spatial");
    for text in ["", "fold-0-spatial", "fold-1-", "fold-1-both", "fold--spatial", "1-spatial"] {
        assert!(text.parse::<Part>().is_err(), "{text}");
    }
}

#[test]
fn who_is_best_by_all_folds_and_by_those_that_held_a_video_out() {
    let (set, raw) = drawn();
    let all = scored(&BOTH, &raw);
    let ranking = all.ranking(0.4);
    assert!(ranking.len() == VIDEOS && ranking.is_sorted_by(|a, b| a.score >= b.score));
    for one in &ranking {
        for (k, ours) in one.snippets.iter().enumerate() {
            let of = |place: usize| 0.4 * raw[place][0][one.video][k] + 0.6 * raw[place][1][one.video][k];
            close(*ours, (of(0) + of(1)) / 2., 1e-12);
        }
        close(one.score, one.snippets.iter().sum::<f64>() / 10., 1e-12);
    }
    let held = all.held_out(&set, 0.4);
    assert!(held.is_sorted_by(|a, b| a.score >= b.score));
    let mut videos: Vec<usize> = held.iter().map(|one| one.video).collect();
    videos.sort_unstable();
    assert_eq!(videos, [&set.folds[0].held[..], &set.folds[2].held].concat());
    for (place, fold) in [(0, 0), (1, 2)] {
        let k = |video: usize, k: usize| 0.4 * raw[place][0][video][k] + 0.6 * raw[place][1][video][k];
        let f: Vec<f64> = (0..VIDEOS).map(|video| (0..10).map(|i| k(video, i)).sum::<f64>() / 10.).collect();
        let mean = f.iter().sum::<f64>() / VIDEOS as f64;
        let deviation = (f.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / VIDEOS as f64).sqrt();
        for one in held.iter().filter(|one| set.folds[fold].held.contains(&one.video)) {
            close(one.score, (f[one.video] - mean) / deviation, 1e-10);
            (0..10).for_each(|i| close(one.snippets[i], (k(one.video, i) - mean) / deviation, 1e-10));
        }
    }
    let table = ranking_table(&set.videos, &ranking, 12);
    assert_eq!((table.head.len(), table.rows.len()), (3 + 10, VIDEOS), "not more splits than snippets");
    assert_eq!(table.rows[0][1], set.videos[ranking[0].video]);
    let tied = [2., 1., 1., 0.].map(|score| Ranked { video: 0, score, snippets: vec![score] });
    let places = ranking_table(&set.videos, &tied, 1).rows.into_iter().map(|row| row[0].clone());
    assert_eq!(places.collect::<Vec<_>>(), ["1", "2", "2", "4"]);
}

#[test]
fn data_opens_with_what_its_streams_see() {
    let inputs = |crops: Option<Crops>| Inputs { streams: BOTH.to_vec(), crops, augment: true };
    let pixels = inputs(Some(Crops { side: 32, scales: vec![1.] }));
    let data = SkillData::open("drawn", None, pixels.clone()).expect("drawn hands");
    let clips = data.clips().expect("videos");
    assert_eq!((clips.len(), data.set().expect("one set").videos.len()), (32, 32));
    for (stream, channels) in [(Stream::Spatial, 3), (Stream::Temporal, 10)] {
        let material = data.material(stream).expect("a stream");
        assert_eq!((material.inputs(), material.videos(), material.frames(5)), (channels, 32, clips[5].frames()));
        assert_eq!(material.uniform(5, 4).expect("snippets").size(), [4, channels, 32, 32]);
    }
    let again = SkillData::open("drawn", None, pixels.clone()).expect("drawn hands");
    assert!(data.alike().is_array() && data.alike() == again.alike());
    assert!(data.published_set().is_err_and(|why| why.contains("drawn is not a data set of the paper")));
    let (names, brought) = brought("drawn", &pixels).expect("other hands");
    assert_eq!((names.len(), brought.len()), (32, 2));
    assert!((0..32).any(|video| brought[0].1.frames(video) != clips[video].frames()), "hands of another seed");
    let one = Inputs { streams: vec![Stream::Temporal], ..pixels.clone() };
    let data = SkillData::open("drawn", None, one.clone()).expect("drawn hands");
    assert!(line(data.material(Stream::Spatial)).contains("no spatial stream"));
    assert!(line(SkillData::open("drawn", Some("drawing"), one)).contains("leave it out"));
    assert!(line(rankle::tasks::skill::brought("drawn", &inputs(None))).contains("ready-made"));
}

#[test]
fn ready_made_features_are_read_and_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let splits = [("train_1", "Better,Worse\nA,B\n"), ("val_1", "Better,Worse\nB,C\n")];
    judged(dir.path(), "Task", "Vid1,Vid2,Best\nA,B,A\nB,C,B\n", &splits);
    let save = |video: &str, name: &str, x: Tensor| {
        let path = made(dir.path().join(format!("features/temporal/Task/{video}.safetensors")));
        rankle::weights::save(&path, &[(name.into(), x)], None).expect("saved");
    };
    let ramp = |rows: i64| Tensor::arange(rows * 4, (Kind::Double, Device::Cpu)).view([rows, 4]);
    for (video, rows) in [("A", 3), ("B", 5), ("C", 4)] {
        save(video, "features", ramp(rows) + rows);
    }
    let inputs = Inputs { streams: vec![Stream::Temporal], crops: None, augment: true };
    let open = || SkillData::open(&dir.path().to_string_lossy(), None, inputs.clone());
    let data = open().expect("features");
    let material = data.material(Stream::Temporal).expect("a stream");
    assert_eq!((material.inputs(), material.videos(), material.frames(1)), (4, 3, 5));
    let snippets = material.uniform(1, 2).expect("rows");
    all_close(&snippets, &(ramp(5) + 5).index_select(0, &Tensor::from_slice(&[1_i64, 3])).to_kind(Kind::Float), 0.);
    assert!(data.clips().expect("features").is_empty());
    for (name, x, words) in [
        ("features", ramp(2).slice(1, 0, 3, 1).contiguous(), "rows of 3 numbers, and those of A.safetensors have 4"),
        ("features", ramp(2) * f64::NAN, "finite numbers"),
        ("others", ramp(2), "a tensor \"features\""),
    ] {
        save("B", name, x);
        let text = line(open().expect("judgements").clips().map(<[_]>::len));
        assert!(text.contains(words) && text.contains("B.safetensors"), "{text}");
    }
    // Of pictures the card says where frames are missing.
    for (video, numbers) in [("A", &[1, 2, 3][..]), ("B", &[1, 2, 4]), ("C", &[1, 2, 3, 7])] {
        for number in numbers {
            let path = made(dir.path().join(format!("videos/Task/{video}/{number}.png")));
            image::RgbImage::new(8, 6).save(path).expect("saved");
        }
    }
    let crops = Some(Crops { side: 32, scales: vec![1.] });
    let inputs = Inputs { streams: vec![Stream::Spatial], crops, augment: true };
    let card = SkillData::open(&dir.path().to_string_lossy(), None, inputs).expect("pictures").cards().remove(0);
    let said = "Task/B: the numbers of its pictures leap between 2.png and 4.png: frames are missing there, or were left \
                out; so do those of 1 more";
    assert!(card.refused.is_none() && card.notes.iter().any(|note| note == said), "{:?}", card.notes);
}

#[test]
fn a_runs_folds_are_those_of_its_parts() {
    let parts = ["fold-3-temporal", "fold-1-spatial", "on-drawn", "fold-1-temporal"].map(String::from);
    assert_eq!(rankle::tasks::skill::folds(&parts), [0, 2]);
}
