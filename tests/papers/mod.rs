//! All papers through one harness: every verb, kills, bad input, and what each program says of itself. A paper is a row of
//! [`papers`]; what only one paper has stands in its own file.

mod bad_input;
mod deploy;
pub mod facenet;
mod killed;
mod multilabel_ranking;
mod photos;
mod quadruplet;
mod skill_determination;
mod together;
mod triplet_reid;
mod verbs;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::common::{Ended, Once, Place, Program, has};

/// A paper as the harness drives it.
pub struct Case {
    pub program: Program,
    /// The smallest training on drawn data: some seconds.
    pub small: &'static str,
    /// A training long enough to be killed in, and a flag that makes it so.
    long: &'static str,
    /// A flag of `small` with another value: refused on resume.
    pub changed: [&'static str; 3],
    /// A flag that such a training does not look at, the last but one word; empty where the paper has none.
    idle: &'static str,
    /// Flags of a choice, of a number above 0 and of a count.
    kinds: [&'static str; 3],
    /// Where the checkpoint of its (first) training lies in the run.
    pub part: &'static str,
    /// What `export` writes.
    model: &'static str,
    /// Flags that show all scores which these data can give.
    scoring: &'static str,
    /// Scores of claims that need other data than drawn ones.
    elsewhere: &'static [&'static str],
    /// What `embed` is given, and the tensor that it writes.
    embed: (&'static str, &'static str),
    /// Verbs that do what its network is for, on three photos, and what they write.
    uses: &'static [(&'static str, &'static str)],
}

pub fn papers() -> Vec<Case> {
    // An example of this package: cargo builds it beside the binaries when it builds the tests.
    let sixth = Path::new(env!("CARGO_BIN_EXE_triplet-reid")).with_file_name("examples").join("sixth");
    let sixth = Program(sixth.to_string_lossy().into_owned().leak());
    vec![
        Case {
            program: Program(env!("CARGO_BIN_EXE_facenet")),
            small: "--size 16 --shrink 8 --width 16 --people 4 --faces 3 --negatives 2 --chunk 5 --steps 4 --log-every 2",
            long: "--steps 40 --checkpoint-every 5 --mining random-in-margin --optimiser adam",
            changed: ["--people", "4", "5"],
            idle: "--folds 1",
            kinds: ["--mining", "--lr", "--steps"],
            part: "",
            model: "model.pt",
            scoring: "--enrolled 1 --neighbours 1",
            elsewhere: &[],
            embed: ("--images", "embeddings"),
            uses: &[
                ("cluster @run --images @photos --out @clusters", "clusters/clusters.json"),
                ("find @run --person @photos/0.png --images @photos --out @found", "found/found.json"),
            ],
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_multilabel-ranking")),
            small: "--net small --size 16 --epochs 1 --epochs2 1 --batch 400 --log-every 2",
            long: "--epochs 8 --epochs2 8 --checkpoint-every 5",
            changed: ["--batch", "400", "300"],
            idle: "--hidden 5",
            kinds: ["--loss", "--lr", "--epochs"],
            part: "",
            model: "model.pt",
            scoring: "",
            elsewhere: &["class mAP (VOC2007", "class mAP (step, difficult"],
            embed: ("--images", "scores"),
            uses: &[("tag @run --images @photos --out @tags", "tags/tags.json")],
        },
        Case {
            program: quadruplet::QUADRUPLET,
            small: "--net small --size 32x16 --quadruplets 4 --steps 2 --steps2 2 --log-every 2",
            // With dropout, which must drop the same after a resume.
            long: "--steps 20 --steps2 20 --dropout 0.5 --checkpoint-every 3",
            changed: ["--quadruplets", "4", "5"],
            idle: "--margin 1",
            kinds: ["--model", "--lr", "--steps"],
            part: "",
            model: "model.pt",
            scoring: "--pairs 9 --draws 2",
            elsewhere: &[],
            embed: ("--images", "dissimilarity"),
            uses: &[("search @run --query @photos/0.png --gallery @photos --out @answers", "answers/answers.json")],
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_skill-determination")),
            small: "--net small --folds 1 --side 16 --batch 4 --steps-spatial 4 --steps-temporal 4 --log-every 2",
            long: "--steps-spatial 40 --checkpoint-every 5",
            changed: ["--batch", "4", "5"],
            idle: "--loss rank1 --beta 0.3",
            kinds: ["--loss", "--lr-spatial", "--steps-spatial"],
            part: "fold-1-spatial",
            model: "model-spatial.pt",
            scoring: "--sigma 5",
            elsewhere: &["fused, separation", "fused, alpha", "fused, snippets", "spatial, ", "temporal, "],
            embed: ("--videos", "spatial"),
            uses: &[],
        },
        Case {
            program: Program(env!("CARGO_BIN_EXE_triplet-reid")),
            small: "--net lunet --shrink 32 --size 32x32 --p 3 --k 2 --t1 4 --log-every 2",
            long: "--t1 40 --checkpoint-every 5",
            changed: ["--p", "3", "4"],
            idle: "--triplets 5",
            kinds: ["--loss", "--lr", "--t1"],
            part: "",
            model: "model.pt",
            scoring: "--rerank --views original",
            elsewhere: &["multi query"],
            embed: ("--images", "embeddings"),
            uses: &[("search @run --query @photos/0.png --gallery @photos --out @answers", "answers/answers.json")],
        },
        Case {
            program: sixth,
            small: "--people 3 --steps 4 --log-every 2",
            long: "--steps 60 --checkpoint-every 5",
            changed: ["--people", "3", "4"],
            idle: "",
            kinds: ["--data", "--margin", "--steps"],
            part: "",
            model: "model.pt",
            scoring: "",
            elsewhere: &[],
            embed: ("--images", "embeddings"),
            uses: &[],
        },
    ]
}

/// One of them, by its program's name.
pub fn paper(name: &str) -> Case {
    papers().into_iter().find(|case| case.program.0.ends_with(name)).expect("a paper")
}

/// Places of trainings that tests take copies of, till this program ends.
static TRAINED: Once<Arc<Place>> = Once::new();

extern "C" fn clear() {
    TRAINED.clear();
}

impl Case {
    pub fn place(&self) -> Place {
        Place::new(self.program, &format!("--data drawn {}", self.small))
    }

    /// The small training in `run` of `place`, done once for all tests.
    pub fn train(&self, place: &Place) {
        let made = TRAINED.of(self.program.0, || {
            // SAFETY: `clear` takes nothing and unwinds nowhere.
            unsafe { libc::atexit(clear) };
            let place = self.place();
            has(&place.good("train @run"), &format!("trained: {}", place.text("run")));
            Arc::new(place)
        });
        place.copy(&made.path("run"), "run");
    }

    /// A place with it.
    pub fn trained(&self) -> Place {
        let place = self.place();
        self.train(&place);
        place
    }

    /// Every verb on a device, each command said with its seconds; those that failed.
    pub fn everything(&self, device: &str) -> Vec<String> {
        let name = Path::new(self.program.0).file_name().expect("a name").to_string_lossy();
        if !self.program.path().exists() {
            println!("{name}: not there");
            return Vec::new();
        }
        let place = self.place();
        (0..3).for_each(|person| place.photo(&format!("photos/{person}.png"), person, 1, 0));
        let brought = if self.embed.0 == "--images" { "@photos" } else { "drawn" };
        let newest = place.path("run").join(self.part).join("checkpoint.safetensors");
        let lines = [
            "train @run --checkpoint-every 1".into(),
            "train @run --checkpoint-every 1".into(), // From the checkpoint before the last one: see below.
            "train @run --checkpoint-every 1".into(), // Finished: it says so again.
            format!("evaluate @run {}", self.scoring),
            format!("embed @run {} {brought} --out @out.safetensors", self.embed.0),
            "export @run".into(),
            "reproduce @again --amp".into(),
            "train @same --deterministic".into(),
            "train @tf32 --tf32".into(),
        ];
        let mut failed = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            if i == 1 && newest.exists() {
                fs::remove_file(&newest).expect("removed");
            }
            let line = format!("{line} --device {device}");
            let start = Instant::now();
            let Ended { code, err: said, .. } = place.ends(&line);
            let (seconds, lines) = (start.elapsed().as_secs_f64(), said.lines().count());
            println!("{name} {line}: {code:?}, {seconds:.1} s, {lines} lines");
            if code != Some(0) || said.contains("panicked") {
                failed.push(format!("{name} {line}: {said}"));
            }
        }
        failed
    }
}

/// What a run on drawn data says where it meets photos.
pub const DRAWN: &str = "this run was trained on drawn data: what it says of real ";
