//! An exported module elsewhere: in Python with torch and Pillow alone, and in onnxruntime.

use std::path::Path;
use std::process::Command;

use rankle::datasets::drawn::photo;

use super::{Case, paper, papers};
use crate::common::{Ended, Once, Place, has, rows, squared};
use crate::export::python;

/// How the set-up's Python ends; None where there is none.
fn ran(args: &[&str]) -> Option<Ended> {
    let mut command = Command::new(python()?);
    command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test/python"));
    Some(Ended::of(command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args)))
}

/// What the set-up's Python prints; None where it lacks one of `needs`, which is said.
fn asked(needs: &str, args: &[&str]) -> Option<String> {
    static HAS: Once<Option<bool>> = Once::new();
    if !HAS.of(needs, || Some(ran(&["-c", &format!("import {needs}")])?.code == Some(0)))? {
        println!("skipped: the Python of the set-up has not all of {needs}");
        return None;
    }
    Some(ran(args)?.well().out)
}

fn exported(case: &Case, more: &str, how: &str) -> (Place, String) {
    let place = if more.is_empty() { case.trained() } else { case.place() };
    place.good(&format!("train @run {more}"));
    let shown = place.good(&format!("export @run {how}"));
    (place, shown)
}

/// The file beside the module, what the module holds, and what is printed are one; torch and Pillow alone then embed as we
/// do: to 1e-5 of an embedding's length from a PNG or JPEG of the input's own size (both decoders are libjpeg-turbo), to
/// 3e-2 from another, since some bytes of two resizes differ by one: much to these small networks of 768 bytes.
#[test]
fn a_module_says_what_it_takes_and_python_embeds_with_it() {
    let papers = [
        ("facenet", "--crop 0.83", "--flip", (27, 19), "centre square of 0.83|2 views|of length 1|RGB planes|size 16"),
        (
            "triplet-reid",
            "",
            "",
            (36, 36),
            "resized to 36 x 36|10 views of 32 x 32|not normalised|[0.485, 0.456, 0.406]",
        ),
    ];
    let help = asked("json", &["scripts/embed-photo.py", "--help"]);
    assert!(help.as_ref().is_none_or(|help| help.contains("model.pt PHOTO")), "{help:?}");
    for (name, more, how, exact, says) in papers {
        let case = paper(name);
        let (place, shown) = exported(&case, more, how);
        has(&shown, says);
        let text = place.read("run/model.json");
        let module = std::fs::read(place.path("run/model.pt")).expect("a module");
        assert!(module.windows(text.len()).any(|part| part == text.as_bytes()), "the module holds the same text");
        assert_eq!(place.json("run/model.json")["output"]["width"], if name == "facenet" { 16 } else { 128 });
        let ends = [(exact, "png", 1e-5), (exact, "jpg", 1e-5), ((97, 61), "bmp", 3e-2)];
        let (mut words, mut ours) =
            (vec!["scripts/embed-photo.py".to_string(), place.text("run/model.pt")], Vec::new());
        for (size, end, _) in ends {
            for person in 0..3 {
                let file = format!("{end}/{person}.{end}");
                photo(5, person, 1, 0, size.0, size.1).save(place.made(&file)).expect("saved");
                words.push(place.text(&file));
            }
            place.good(&format!("embed @run {how} --images @{end} --out @{end}.safetensors"));
            ours.extend(rows(&place.tensor(&format!("{end}.safetensors"))));
        }
        let Some(said) = asked("torch, PIL", &words.iter().map(String::as_str).collect::<Vec<_>>()) else { return };
        assert_eq!((said.lines().count(), ours.len()), (9, 9));
        for (i, (line, ours)) in said.lines().zip(ours).enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(line["photo"], words[2 + i]);
            let theirs: Vec<f64> = serde_json::from_value(line["output"].clone()).expect("numbers");
            let off = (squared(&ours, &theirs) / squared(&ours, &vec![0.; ours.len()])).sqrt();
            let (_, end, tolerance) = ends[i / 3];
            assert!(off < tolerance, "{name}, {end}: {off} of its length");
        }
        // Bytes that changed would give other numbers without a word.
        let (damaged, middle) = (place.text("damaged.pt"), module.len() / 2);
        let mut bytes = module;
        bytes[middle..middle + 200].iter_mut().for_each(|byte| *byte ^= 1);
        place.write("damaged.pt", bytes);
        let ended = ran(&["scripts/embed-photo.py", &damaged, &words[2]]).expect("the same Python");
        has(&ended.err, "damaged.pt: |damaged");
        assert!(ended.code == Some(1) && ended.out.is_empty() && ended.err.lines().count() == 1, "{}", ended.all());
        edited(&words[1], &damaged);
        let ended = ran(&["scripts/embed-photo.py", &damaged, &words[2]]).expect("the same Python");
        has(&ended.err, "damaged.pt: it is not as export wrote it");
        assert!(ended.code == Some(1) && ended.out.is_empty() && ended.err.lines().count() == 1, "{}", ended.all());
        if !more.is_empty() {
            // As typed, in place of as the run saw photos.
            has(&place.good(&format!("export @run {how} --crop 0.5")), "centre square of 0.5 ");
        }
    }
}

/// A copy of a module to which another text of what it is was added, as Python does it.
fn edited(module: &str, copy: &str) {
    let edit = "import sys, shutil, warnings, zipfile
warnings.simplefilter('ignore')
shutil.copy(sys.argv[1], sys.argv[2])
with zipfile.ZipFile(sys.argv[2], 'a') as held:
    name = next(name for name in held.namelist() if name.endswith('extra/model.json'))
    held.writestr(name, held.read(name) + b' ')";
    asked("zipfile", &["-c", edit, module, copy]).expect("the same Python");
}

#[test]
fn a_module_that_cannot_be_written_is_no_network_that_cannot_be_traced() {
    let place = paper("triplet-reid").trained();
    let mut command = place.command("export @run");
    // SAFETY: sets a limit, between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            let most = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
            let _ = libc::setrlimit(libc::RLIMIT_FSIZE, &most);
            Ok(())
        });
    }
    let ended = Ended::of(&mut command);
    has(&ended.err, "error: cannot write |run/model.pt: raise the limit on a file's size (ulimit -f)|: File too large");
    assert!(ended.code == Some(1) && !ended.err.contains("trace"), "{}", ended.err);
}

/// PyTorch's exporter, for batches of other sizes than its example's.
const COMPARE: &str = r#"
import json, sys, torch, onnx, onnxruntime
model, onnx_file = sys.argv[1:]
extra = {"model.json": ""}
net = torch.jit.load(model, _extra_files=extra).eval()
about = json.loads(extra["model.json"])
assert json.loads(onnx.load(onnx_file).metadata_props[0].value) == about
session = onnxruntime.InferenceSession(onnx_file)
worst = 0
for batch in (1, 5):
    xs = [torch.rand(batch, *input.shape[1:]) for input in session.get_inputs()]
    theirs = torch.from_numpy(session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), xs)})[0])
    ours = net(*xs).detach()
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1)))
print(worst)
"#;

#[test]
fn numpy_reads_what_embed_writes() {
    let place = paper("triplet-reid").trained();
    (0..3).for_each(|person| place.photo(&format!("photos/é{person}.png"), person, 1, 0));
    for end in ["npz", "safetensors"] {
        place.good(&format!("embed @run --images @photos --out @x.{end}"));
    }
    // Rows that are all one tell nothing, which is said.
    for copy in 0..3 {
        place.photo(&format!("copies/{copy}.png"), 0, 1, 0);
    }
    has(&place.ends("embed @run --images @copies --out @copies.npz").well().err, "all 3 photos have one embedding");
    assert!(!place.ends("embed @run --images @photos --out @again.npz").well().err.contains("one embedding"));
    let script = "import json, numpy, sys; z = numpy.load(sys.argv[1]); made = json.loads(z['made'].item())\n\
                  print(list(z['names']), z['embeddings'].shape, made['program'], made['weights_blake3'], z['embeddings'][2, 5])";
    let Some(said) = asked("numpy", &["-c", script, &place.text("x.npz")]) else { return };
    has(&said, "é0.png|é2.png|(3, 128)|triplet-reid 0.");
    let metadata = rankle::weights::metadata(&place.path("x.safetensors")).expect("metadata");
    let made: serde_json::Value = serde_json::from_str(metadata["made"].as_str().expect("a text")).expect("JSON");
    has(&said, made["weights_blake3"].as_str().expect("a hash"));
    let number: f64 = said.trim().rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    let ours = place.tensor("x.safetensors");
    crate::common::close(number, ours.double_value(&[2, 5]), 1e-6);
}

#[test]
fn onnx_answers_as_the_module() {
    for case in papers() {
        let place = case.trained();
        place.good("export @run");
        let (model, onnx) = (place.text(&format!("run/{}", case.model)), place.text("out.onnx"));
        let Some(said) = asked("torch, onnx, onnxruntime", &["scripts/to-onnx", &model, &onnx]) else { return };
        has(&said, "out.onnx|[batch, ");
        let worst = asked("torch", &["-c", COMPARE, &model, &onnx]).expect("the same Python");
        let worst: f64 = worst.trim().parse().expect("a number");
        assert!(worst < 1e-4, "{}: {worst}", case.program.0);
        // What was edited in a module is no truth; and what takes no single photos is refused by what shows such.
        let other = place.text("edited.pt");
        edited(&model, &other);
        let ended = ran(&["scripts/to-onnx", &other, &place.text("edited.onnx")]).expect("the same Python");
        has(&ended.err, "edited.pt is not as export wrote it: it was changed since");
        assert!(ended.code == Some(1) && !place.path("edited.onnx").exists(), "{}", ended.all());
        let single = !["quadruplet", "skill-determination"].iter().any(|name| case.program.0.ends_with(name));
        if !single && asked("torch, PIL", &["-c", ""]).is_some() {
            let ended = ran(&["scripts/embed-photo.py", &model, "x.png"]).expect("the same Python");
            has(&ended.err, "this script is for networks of single photos");
            assert!(ended.code == Some(1) && ended.err.lines().count() == 1, "{}", ended.all());
        }
        // Its own file is written anew; a file of somebody else's stays, and its own that was edited.
        let again = || ran(&["scripts/to-onnx", &model, &onnx]).expect("the same Python");
        again().well();
        let edit =
            "import onnx, sys; net = onnx.load(sys.argv[1]); net.doc_string = 'mine'; onnx.save(net, sys.argv[1])";
        asked("onnx", &["-c", edit, &onnx]).expect("the same Python");
        let edited = std::fs::read(place.path("out.onnx")).expect("read");
        for theirs in [edited, b"mine".to_vec()] {
            place.write("out.onnx", &theirs);
            let ended = again();
            has(&ended.err, "out.onnx: something is there that this script did not write, or that was changed since");
            assert!(ended.code == Some(1) && std::fs::read(place.path("out.onnx")).expect("read") == theirs);
        }
    }
}
