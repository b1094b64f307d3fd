//! Data sets of videos with what each stream's snippets are made of.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, FromArgMatches};
use serde_json::{Value, json};
use tch::Kind;

use super::{Features, Material};
use crate::datasets::drawn::Hands;
use crate::datasets::epic_skills;
use crate::datasets::skills::{Fold, SkillSet};
use crate::datasets::{Card, Look};
use crate::device::machine::MachineFlags;
use crate::run::photos::{Of, Read, Reads};
use crate::run::stop::{as_argument, typed};
use crate::say::{count, note, one_line, plural, print};
use crate::tasks::{Data, Own};
use crate::video::snippet::{Crops, Stream};
use crate::video::{self, Cache, Clip};
use crate::weights;

/// What each stream sees of some videos.
pub type Materials = Vec<(Stream, Material)>;

/// Bytes of frames that are kept in memory.
const CACHE: usize = 512 << 20;

/// Which streams of a video a run looks at, and how.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Frames, flow or both.
    pub streams: Vec<Stream>,
    /// How frames become inputs; None for ready-made features.
    pub crops: Option<Crops>,
    /// Whether training windows are random.
    pub augment: bool,
}

impl Inputs {
    /// What each stream sees of `clips`, whose flow is computed where the flag `from` and its value say.
    fn of(&self, clips: &Arc<[Clip]>, crops: &Crops, from: [&str; 2]) -> Result<Vec<(Stream, Material)>> {
        if self.streams.contains(&Stream::Temporal) {
            let checked = clips.iter().try_for_each(Clip::check_flow);
            checked.map_err(|error| anyhow!("{error} {}", typed([from[0].into(), as_argument(Path::new(from[1]))])))?;
        }
        let (clips, crops, augment) = (clips.clone(), crops.clone(), self.augment);
        let of = |&stream| (stream, Material::Clips { clips: clips.clone(), crops: crops.clone(), augment, stream });
        Ok(self.streams.iter().map(of).collect())
    }
}

/// The sets of `data`: drawn hands, or those of a folder ([`epic_skills::open`]), of which `task` chooses one.
///
/// # Errors
/// As [`epic_skills::open`]; a task of drawn hands.
pub fn sets(data: &str, task: Option<&str>) -> Result<Vec<SkillSet>> {
    Ok(match (data, task) {
        ("drawn", Some(_)) => bail!("--task: drawn hands are one task: leave it out"),
        ("drawn", None) => vec![Hands::default().set().0],
        (dir, Some(task)) => vec![epic_skills::open_one(Path::new(dir), task)?],
        (dir, None) => epic_skills::open(Path::new(dir))?,
    })
}

/// The videos of a set of [`sets`].
///
/// # Errors
/// One line: a video that is missing, or cannot be told from another.
pub fn clips(data: &str, set: &SkillSet, cache: &Arc<Cache>) -> Result<Vec<Clip>> {
    match data {
        "drawn" => Ok(Hands::default().clips(cache).1),
        dir => epic_skills::clips(Path::new(dir), set, cache),
    }
}

/// Data sets with what the snippets of the first one's videos are made of. Videos, flow and features are looked for when
/// they are first asked for.
#[derive(Debug)]
pub struct SkillData {
    /// Names, pairs and folds of all sets: one where a task chooses it.
    pub sets: Vec<SkillSet>,
    /// Their folder, or `drawn`.
    data: String,
    inputs: Inputs,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    clips: Arc<[Clip]>,
    materials: Vec<(Stream, Material)>,
}

impl SkillData {
    /// The sets of `data`, or its set `task` alone: annotations only.
    pub fn open(data: &str, task: Option<&str>, inputs: Inputs) -> Result<SkillData> {
        Ok(SkillData { sets: sets(data, task)?, data: data.into(), inputs, opened: OnceLock::new() })
    }

    /// The one set that there is, or that a task chose.
    pub fn set(&self) -> Result<&SkillSet> {
        let names = self.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ");
        let [set] = &self.sets[..] else {
            bail!("{} has several sets: say --task with one of {names}", self.data);
        };
        Ok(set)
    }

    /// Whether a folder has ready-made features and no videos.
    fn has_features_alone(&self) -> bool {
        let has = |folder: &str| Path::new(&self.data).join(folder).is_dir();
        self.data != "drawn" && has("features") && !has("videos")
    }

    /// As [`epic_skills::files_of`]; None of drawn hands, and where features alone are there or asked for.
    fn found(&self, set: &SkillSet) -> Option<Result<(epic_skills::NamedFiles, Vec<anyhow::Error>)>> {
        let films = self.data != "drawn" && self.inputs.crops.is_some() && !self.has_features_alone();
        films.then(|| epic_skills::files_of(Path::new(&self.data), set))
    }

    /// Why each video of a set that cannot be used cannot, and where frames of the others leap.
    fn missing(&self, set: &SkillSet) -> (Vec<anyhow::Error>, Option<String>) {
        match self.found(set) {
            _ if self.data == "drawn" => (Vec::new(), None),
            Some(Ok((found, missing))) => (missing, epic_skills::leaps(&found)),
            Some(Err(error)) => (vec![error], None),
            None => {
                let dir = Path::new(&self.data);
                let all =
                    self.inputs.streams.iter().flat_map(|&stream| (0..set.videos.len()).map(move |i| (stream, i)));
                (all.filter_map(|(stream, i)| features_of(dir, set, stream, i).err()).collect(), None)
            }
        }
    }

    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let (set, inputs) = (self.set()?, &self.inputs);
        let opened = match &inputs.crops {
            None => {
                let of = |&stream: &Stream| Ok((stream, features(Path::new(&self.data), set, stream)?));
                Opened { clips: Arc::new([]), materials: inputs.streams.iter().map(of).collect::<Result<_>>()? }
            }
            Some(crops) => {
                let films = !self.has_features_alone();
                ensure!(films, "{} has ready-made features and no videos: they are for --net features", self.data);
                let clips: Arc<[Clip]> = clips(&self.data, set, &Cache::new(CACHE))?.into();
                let materials = inputs.of(&clips, crops, ["--data", &self.data]);
                let materials = materials.map_err(|error| anyhow!("{error}; or leave it out: --streams spatial"))?;
                Opened { clips, materials }
            }
        };
        Ok(self.opened.get_or_init(|| opened))
    }

    /// The videos; ready-made features have none.
    ///
    /// # Errors
    /// One line: a video, its flow or its features missing; several sets.
    pub fn clips(&self) -> Result<&[Clip]> {
        Ok(&self.opened()?.clips)
    }

    /// What the snippets of a stream are made of.
    ///
    /// # Errors
    /// As [`SkillData::clips`], and where it was not opened with that stream.
    pub fn material(&self, stream: Stream) -> Result<&Material> {
        let found = self.opened()?.materials.iter().find(|(known, _)| *known == stream);
        Ok(&found.with_context(|| format!("no {} stream in this run", stream.name()))?.1)
    }

    /// Errors where a stream's snippets are not of as many numbers as a network takes that was `trained` on so many.
    pub fn fits(&self, trained: &[(Stream, i64)]) -> Result<()> {
        for &(stream, own) in trained {
            let (here, folder) = (self.material(stream)?.inputs(), Path::new(&self.data).join("features"));
            ensure!(
                here == own,
                "{} has rows of {here} features where the run was trained on rows of {own}: give --data with such, or train a run on these",
                folder.join(stream.name()).display()
            );
        }
        Ok(())
    }
}

impl Data for SkillData {
    fn name(&self) -> &str {
        self.set().map_or(&self.data, |set| &set.name)
    }

    fn notes(&self) -> &[String] {
        self.set().map_or(&[], |set| &set.notes)
    }

    fn published_set(&self) -> std::result::Result<String, String> {
        let set = self.set().map_err(|error| error.to_string())?;
        match set.unlike_published().into_iter().next() {
            _ if set.is_published() => Ok(set.name.clone()),
            Some(why) => Err(why),
            None => Err(format!("{} is not a data set of the paper, or not the whole of it", set.name)),
        }
    }

    fn trainable(&self) -> Result<()> {
        self.opened().map(drop)
    }

    fn check(&self, _: bool, _: Look) -> Result<()> {
        self.trainable()?;
        if let Some(found) = self.found(self.set()?) {
            epic_skills::leaps(&found?.0).iter().for_each(note);
        }
        Ok(())
    }

    /// Films and pictures by their bytes, features and each fold's pairs by content.
    fn trained(&self) -> Reads<'_> {
        let (Ok(set), Ok(opened), false) = (self.set(), self.opened(), self.data == "drawn") else {
            return Box::new(std::iter::empty());
        };
        let fold = |(i, fold): (usize, &Fold)| {
            let pairs = json!([set.videos, fold.train, fold.similar]).to_string();
            Read::hashed(format!("fold {}", i + 1), pairs.as_bytes())
        };
        let read = |clip: &Clip, path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{}/{file}", clip.name);
            Read {
                name: name.into(),
                of: Of::File(path.into()),
                known: format!("{} frames from {}", clip.frames(), clip.first()).into(),
            }
        };
        let folds = set.folds.iter().enumerate().map(fold);
        let streams = opened.materials.iter().flat_map(|(stream, material)| match material {
            Material::Clips { clips, .. } => {
                let files =
                    |clip: &Clip| clip.files(*stream).into_iter().map(|path| read(clip, path)).collect::<Vec<_>>();
                clips.iter().flat_map(files).collect()
            }
            Material::Features(all) => {
                let bytes =
                    |features: &Features| features.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
                let all = set.videos.iter().zip(all.iter());
                all.map(|(video, of)| Read::row(format!("{video}, {}", stream.name()), &bytes(of), ""))
                    .collect::<Vec<_>>()
            }
        });
        Box::new(folds.chain(streams).collect::<Vec<_>>().into_iter())
    }

    /// Names, pairs, and how long the videos are.
    fn alike(&self) -> Value {
        let frames = |(stream, material): &(Stream, Material)| {
            (stream.name(), (0..material.videos()).map(|video| material.frames(video)).collect::<Vec<_>>())
        };
        let (Ok(set), Ok(opened)) = (self.set(), self.opened()) else { return Value::Null };
        let folds = set.folds.iter().map(|fold| (&fold.train, &fold.similar, &fold.test));
        json!([set.videos, folds.collect::<Vec<_>>(), opened.materials.iter().map(frames).collect::<Vec<_>>()])
    }

    fn cards(&self) -> Vec<Card> {
        let card = |set: &SkillSet| {
            let (mut card, (missing, leaps)) = (set.card(), self.missing(set));
            card.notes.extend(leaps);
            card.lacks(missing.iter().map(|error| format!("{error:#}")).collect());
            let (sets, data, inputs) = (vec![set.clone()], self.data.clone(), self.inputs.clone());
            let alone = SkillData { sets, data, inputs, opened: OnceLock::new() };
            card.refused = card.refused.take().or_else(|| Some(one_line(&alone.trainable().err()?)));
            card
        };
        self.sets.iter().map(card).collect()
    }
}

/// Videos that a user brings, the films and folders of pictures in `videos`, or `drawn` for hands that no set has: their
/// names, and what each stream sees of them.
///
/// # Errors
/// One line: no videos there, or none of the kind that the run scores; no flow.
pub fn brought(videos: &str, inputs: &Inputs) -> Result<(Vec<String>, Materials)> {
    let Some(crops) = &inputs.crops else {
        bail!("this run scores ready-made features, and {videos} has videos: train one with --net alexnet");
    };
    let cache = Cache::new(CACHE);
    let (names, clips) = if videos == "drawn" {
        // Other hands than those of --data drawn, and called otherwise.
        let (set, clips) = Hands { seed: 2, ..Hands::default() }.clips(&cache);
        (set.videos.iter().map(|name| format!("new-{name}")).collect(), clips)
    } else {
        let clips = video::clips(Path::new(videos), &cache)?;
        (clips.iter().map(|clip| clip.name.clone()).collect(), clips)
    };
    Ok((names, inputs.of(&clips.into(), crops, ["--videos", videos])?))
}

fn features(dir: &Path, set: &SkillSet, stream: Stream) -> Result<Material> {
    let mut all: Vec<Features> = Vec::new();
    for (i, name) in set.videos.iter().enumerate() {
        let found = features_of(dir, set, stream, i)?;
        let first = all.first().map_or(found.width, |first| first.width);
        ensure!(
            first == found.width,
            "{name}.safetensors, {}: rows of {} numbers, and those of {}.safetensors have {first}",
            stream.name(),
            found.width,
            set.videos[0]
        );
        all.push(found);
    }
    Ok(Material::Features(all.into()))
}

/// Ready-made features of one video: `features/<stream>/<Task>/<video>.safetensors`, tensor "features" `[snippets, width]`.
fn features_of(dir: &Path, set: &SkillSet, stream: Stream, video: usize) -> Result<Features> {
    let folder = dir.join("features").join(stream.name()).join(&set.task(video).name);
    let path = crate::lists::found(folder.join(format!("{}.safetensors", set.videos[video])));
    let (tensors, _) = weights::read_safetensors(&path)?;
    let found = tensors.into_iter().find(|(name, _)| name == "features").map(|(_, x)| x.to_kind(Kind::Float));
    let found = found.filter(|x| x.dim() == 2 && x.numel() > 0 && x.isfinite().all().int64_value(&[]) == 1);
    let x = found.with_context(|| {
        format!("{}: it should hold a tensor \"features\" [snippets, width] of finite numbers", path.display())
    })?;
    Ok(Features { width: x.size()[1] as usize, values: Vec::<f32>::try_from(x.contiguous().view([-1]))? })
}

/// A training of a run: one stream of one fold, in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The fold, from 0.
    pub fold: usize,
    /// Frames or flow.
    pub stream: Stream,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fold-{}-{}", self.fold + 1, self.stream.name())
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Part> {
        let known = |stream: Stream| {
            let fold = text.strip_prefix("fold-")?.strip_suffix(stream.name())?.strip_suffix('-')?;
            Some(Part { fold: fold.parse::<usize>().ok()?.checked_sub(1)?, stream })
        };
        let found = known(Stream::Spatial).or_else(|| known(Stream::Temporal));
        found.with_context(|| format!("{text} is no part of a run: fold-1-spatial, say"))
    }
}

/// The folds of these parts, each once, in order.
pub fn folds(parts: &[String]) -> Vec<usize> {
    let all: BTreeSet<usize> = parts.iter().filter_map(|part| Some(part.parse::<Part>().ok()?.fold)).collect();
    all.into_iter().collect()
}

/// What to say where no fold that was asked for is trained: which of those of the run's `parts` are, as `has` says.
pub fn no_fold(run: &Path, parts: &[String], has: impl Fn(&usize) -> bool) -> String {
    let trained: Vec<String> =
        folds(parts).iter().filter(|fold| has(fold)).map(|fold| (fold + 1).to_string()).collect();
    match &trained.join(", ")[..] {
        "" => format!("{} has no trained fold yet: train it first", run.display()),
        known => {
            let folds = plural(trained.len(), "fold", "folds");
            format!("{} has trained {folds} {known}: name one by --fold, or leave it out", run.display())
        }
    }
}

/// Whose videos are to be ranked, by which run, and how they are scored (`S`).
#[derive(Debug, Args)]
pub struct RankFlags<S: Args> {
    /// Run folder that train made
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder of videos (films, or folders of pictures; flow in flow/NAME), or drawn for hands that no run has seen: new-A1 and so on
    #[arg(long, value_name = "DIR|drawn")]
    pub videos: String,
    /// Print one JSON value alone on standard output, in place of the table
    #[arg(long)]
    json: bool,
    /// Also write the ranking as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where it computes.
    #[command(flatten)]
    pub machine: MachineFlags,
    /// How videos are scored.
    #[command(flatten)]
    pub how: S,
}

/// The verb that computes optical flow.
pub const FLOW: Own =
    ("flow", "Compute TV-L1 optical flow once, for the temporal stream", FlowFlags::augment_args, |of| {
        FlowFlags::from_arg_matches(of)?.compute()
    });

/// Whose optical flow is to be computed.
#[derive(Debug, Args)]
pub struct FlowFlags {
    /// EPIC-Skills' folder: reads videos/, writes flow/
    #[arg(long, value_name = "DIR", conflicts_with = "videos")]
    data: Option<String>,
    /// Which of its sets
    #[arg(long, value_name = "NAME", requires = "data")]
    task: Option<String>,
    /// Any folder of videos: writes flow/ in it
    #[arg(long, value_name = "DIR", required_unless_present = "data")]
    videos: Option<String>,
}

impl FlowFlags {
    /// Computes what is not there yet, and says how many videos it were.
    ///
    /// # Errors
    /// As [`video::flow::compute`]; a set or a video that is missing.
    pub fn compute(&self) -> Result<()> {
        let cache = Cache::new(0); // flow is read and written once
        let mut all = Vec::new();
        if let Some(data) = &self.data {
            for set in sets(data, self.task.as_deref())? {
                all.extend(clips(data, &set, &cache)?);
                epic_skills::files_of(Path::new(data), &set)
                    .iter()
                    .filter_map(|(found, _)| epic_skills::leaps(found))
                    .for_each(note);
            }
        } else if let Some(videos) = &self.videos {
            all = video::clips(Path::new(videos), &cache)?;
        }
        let dir = self.data.as_ref().or(self.videos.as_ref()).context("a folder")?;
        print(format!("flow of {} computed", count(video::flow::compute(Path::new(dir), all)?, "video")))
    }
}
