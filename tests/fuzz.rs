//! Every parser of foreign bytes, on small sound files that chance has changed: no panic, no abort, and no allocation
//! above a stated bound. Those of libtorch's own allocator are not seen: it is asked for what a file's length allows.
//!
//! The same changes in every run, for `RANKLE_FUZZ_SECONDS` of one core (20 where it says nothing): two processes have half
//! of them each.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, RgbImage};
use rand::Rng;
use rankle::datasets::{self, epic_skills, faces, labels};
use rankle::run::config::Config;
use rankle::{picture, say, seed, weights};
use tch::{Kind, Tensor};

#[path = "fuzz/own.rs"]
mod own;

/// The largest allocation since it was last set to 0.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What no parser of files of some hundred bytes may take at once; a decoder of pictures takes what a picture may.
const BOUND: usize = 16 << 20;

type Files = Vec<(&'static str, Vec<u8>)>;

struct Target {
    name: &'static str,
    bound: usize,
    /// Sound files. All are changed, one at a time.
    files: Files,
    /// What is made of a file's bytes before they are written: an archive of them.
    pack: fn(Vec<u8>) -> Vec<u8>,
    /// Reads what lies in the folder.
    read: fn(&Path) -> anyhow::Result<()>,
}

impl Target {
    fn new(name: &'static str, files: Files, read: fn(&Path) -> anyhow::Result<()>) -> Target {
        Target { name, bound: BOUND, files, pack: |bytes| bytes, read }
    }

    fn write(&self, folder: &Path, name: &str, bytes: Vec<u8>) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, (self.pack)(bytes)).expect("written");
    }
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        archive.start_file(*name, stored).expect("a file");
        archive.write_all(bytes).expect("written");
    }
    archive.finish().expect("an archive").into_inner()
}

const NUMBERS: [u8; 16] = [0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64];

/// A dictionary of one tensor of 2 x 2 numbers, as torch.save pickles it.
fn pickle() -> Vec<u8> {
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    [
        b"\x80\x02}".to_vec(),
        text("weight"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x04tQK\x00K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.".to_vec(),
    ]
    .concat()
}

fn torch_zip(pickle: Vec<u8>) -> Vec<u8> {
    zip_of(&[("a/data.pkl", &pickle), ("a/data/0", &NUMBERS), ("a/version", b"3\n")])
}

fn legacy() -> Vec<u8> {
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [head.as_slice(), &pickle(), b"\x80\x02]X\x01\x00\x00\x000a.", &4_u64.to_le_bytes(), &NUMBERS].concat()
}

fn npy() -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), &NUMBERS].concat()
}

fn safetensors() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    let tensors =
        [("a".to_string(), Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu))), ("b".into(), Tensor::from(7))];
    let metadata = [("progress".to_string(), "{\"step\": 1}".to_string())].into();
    weights::save(&path, &tensors, Some(metadata)).expect("written");
    std::fs::read(path).expect("there")
}

/// One matrix of doubles in MATLAB's level 5.
fn mat(rows: u32, values: &[f64]) -> Vec<u8> {
    let element = |kind: u32, bytes: &[u8]| {
        let mut out = [kind.to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let sides = [rows.to_le_bytes(), (values.len() as u32 / rows).to_le_bytes()].concat();
    let matrix =
        [element(6, &[6, 0, 0, 0, 0, 0, 0, 0]), element(5, &sides), element(1, b"x"), element(9, &numbers)].concat();
    let mut out = b"MATLAB 5.0 MAT-file".to_vec();
    out.resize(124, b' ');
    out.extend(b"\x00\x01IM");
    out.extend(element(14, &matrix));
    out
}

fn image(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 20) as u8, (y * 30) as u8, 99]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

fn read_weights(folder: &Path) -> anyhow::Result<()> {
    weights::read(&folder.join("x")).map(drop)
}

fn read_labels(folder: &Path) -> anyhow::Result<()> {
    labels::open(folder).map(drop)
}

fn targets() -> Vec<Target> {
    let texts =
        |files: &[(&'static str, &str)]| files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect();
    let weight = |name, bytes| Target::new(name, vec![("x", bytes)], read_weights);
    let arff = "@relation x\n@attribute f1 numeric\n@attribute 'f 2' {0,1}\n@attribute l1 {0,1}\n@attribute l2 {1,0}\n@data\n0.5,1,0,1\n{0 2.5, 3 0}\n";
    let voc = "<annotation><object><name>cat</name><difficult>1</difficult></object><object><name>dog</name></object></annotation>";
    let coco = r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": [{"image_id": 1, "category_id": 3}], "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}]}"#;
    let mars_names = "0001C1T0001F001.jpg\n0001C1T0001F002.jpg\n0002C2T0001F001.jpg\n";
    let tracks = mat(2, &[1., 3., 2., 3., 1., 2., 1., 2.]);
    let mut all = vec![
        weight("safetensors", safetensors()),
        weight("torch.save, zip", torch_zip(pickle())),
        Target { pack: torch_zip, ..weight("torch.save, pickle in a sound zip", pickle()) },
        weight("torch.save, legacy", legacy()),
        weight("npz", zip_of(&[("a.npy", &npy())])),
        Target { pack: |bytes| zip_of(&[("a.npy", &bytes)]), ..weight("npy in a sound zip", npy()) },
        Target::new(
            "ARFF",
            texts(&[
                ("s.xml", "<labels><label name=\"l1\"/><label name=\"l2\"/></labels>"),
                ("s-train.arff", arff),
                ("s-test.arff", arff),
            ]),
            |folder| labels::open(&folder.join("s")).map(drop),
        ),
        Target::new(
            "VOC",
            texts(&[
                ("JPEGImages/1.jpg", ""),
                ("Annotations/1.xml", voc),
                ("ImageSets/Main/trainval.txt", "1\n"),
                ("ImageSets/Main/test.txt", "1\n"),
            ]),
            read_labels,
        ),
        Target::new(
            "COCO",
            texts(&[
                ("annotations/instances_train2014.json", coco),
                ("annotations/instances_val2014.json", coco),
                ("train2014/a.jpg", ""),
                ("val2014/a.jpg", ""),
            ]),
            read_labels,
        ),
        Target::new(
            "labels.csv",
            texts(&[("labels.csv", "image,labels,split\na.jpg,cat;dog,train\n\"b,1.jpg\",dog,test\n")]),
            read_labels,
        ),
        Target::new(
            "NUS-WIDE",
            texts(&[
                ("ConceptsList/Concepts81.txt", "cat\ndog\n"),
                ("ImageList/TrainImagelist.txt", "a\\1_2.jpg\n"),
                ("ImageList/TestImagelist.txt", "a\\1_3.jpg\n"),
                ("Groundtruth/TrainTestLabels/Labels_cat_Train.txt", "1\n"),
                ("Groundtruth/TrainTestLabels/Labels_dog_Train.txt", "0\n"),
                ("Groundtruth/TrainTestLabels/Labels_cat_Test.txt", "0\n"),
                ("Groundtruth/TrainTestLabels/Labels_dog_Test.txt", "1\n"),
                ("images/a/1_2.jpg", ""),
                ("images/a/1_3.jpg", ""),
            ]),
            read_labels,
        ),
        Target::new(
            "pairs.txt",
            texts(&[
                ("pairs.txt", "2\t1\nA\t1\t2\nA\t1\tB\t1\nB\t1\t2\nA\t2\tB\t2\n"),
                ("A/A_0001.jpg", ""),
                ("A/A_0002.jpg", ""),
                ("B/B_0001.jpg", ""),
                ("B/B_0002.jpg", ""),
            ]),
            |folder| faces::open(folder).map(drop),
        ),
        Target::new(
            "skill lists",
            texts(&[
                ("annotations/T/t_gt.csv", "Vid1,Vid2,Better\nB,A,A\nB,C,B\nE,D,D\n"),
                ("annotations/T/splits/t_train_1.csv", "Better,Worse\nA,B\n"),
                ("annotations/T/splits/t_val_1.csv", "Better,Worse\nB,C\nD,E\n"),
            ]),
            |folder| epic_skills::open(folder).map(drop),
        ),
        Target::new(
            "MARS",
            vec![
                ("bbox_train/0001/x.jpg", Vec::new()),
                ("bbox_test/0001/x.jpg", Vec::new()),
                ("info/train_name.txt", mars_names.into()),
                ("info/test_name.txt", mars_names.into()),
                ("info/tracks_train_info.mat", tracks.clone()),
                ("info/tracks_test_info.mat", tracks),
                ("info/query_IDX.mat", mat(1, &[1., 2.])),
            ],
            |folder| datasets::open(folder).map(drop),
        ),
        Target::new(
            "config.json",
            texts(&[(
                "config.json",
                r#"{"paper": "facenet", "flags": {"size": 32}, "data": null, "machine": {"rankle": "0.1.0"}, "argv": ["x"]}"#,
            )]),
            |folder| Config::read(folder).map(drop),
        ),
    ];
    all.extend(own::targets());
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    for (name, format) in
        [("JPEG", Jpeg), ("PNG", Png), ("BMP", Bmp), ("GIF", Gif), ("TIFF", Tiff), ("WebP", WebP), ("PNM", Pnm)]
    {
        let read = |folder: &Path| picture::load(&folder.join("x")).map(drop);
        all.push(Target { bound: picture::MAX_BYTES as usize, ..Target::new(name, vec![("x", image(format))], read) });
    }
    all
}

/// Flips, cuts, repeats, inserts, and lays large numbers where lengths may stand.
fn changed(bytes: &mut Vec<u8>, rng: &mut impl Rng) {
    const LARGE: [u64; 8] =
        [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 40, u32::MAX as u64, 1 << 31, i32::MAX as u64, u16::MAX as u64];
    const WORDS: [&str; 9] =
        ["2147483648", "99999999999999999999", "-1", "1e999", "NaN", "0", "\u{202e}\u{1b}[2J", "\n", "[[[[[[[["];
    if bytes.is_empty() {
        bytes.push(rng.random());
    }
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at.max(1)),
            3 => drop(bytes.drain(at..(at + rng.random_range(0..16)).min(bytes.len() - 1).max(at))),
            4 => {
                let part = bytes[at..(at + 32).min(bytes.len())].to_vec();
                let to = rng.random_range(0..bytes.len());
                bytes.splice(to..to, part);
            }
            5 | 6 => {
                let number = LARGE[rng.random_range(0..LARGE.len())];
                let wide = if rng.random() { number.to_le_bytes() } else { number.to_be_bytes() };
                let width = [1, 2, 4, 8][rng.random_range(0..4)];
                let part = if wide[7] == 0 { &wide[..width] } else { &wide[8 - width..] };
                bytes.iter_mut().skip(at).zip(part).for_each(|(byte, &new)| *byte = new);
            }
            7 => drop(bytes.splice(at..at, WORDS[rng.random_range(0..WORDS.len())].bytes())),
            _ => {
                // A number in a text becomes another.
                let digits = bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
                drop(bytes.splice(at..at + digits, WORDS[rng.random_range(0..WORDS.len())].bytes()));
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// Sound pictures beside whose pixels something small is packed that is large, or says that it is.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 4 * BOUND]).expect("packed");
    let packed = packed.finish().expect("packed");
    let png = |kind: &[u8; 4], head: &[u8]| {
        let body = [kind, head, &packed].concat();
        let length = (body.len() as u32 - 4).to_be_bytes();
        let chunk = [&length[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat();
        let mut bytes = image(ImageFormat::Png);
        bytes.splice(33..33, chunk); // behind the first chunk
        bytes
    };
    // A picture of one chunk as the extended kind, of 12 x 9 pixels, that says it has EXIF data of nearly all that 32 bits count.
    let simple = image(ImageFormat::WebP);
    let (extended, exif) = (*b"VP8X\x0a\0\0\0\x08\0\0\0\x0b\0\0\x08\0\0", *b"EXIF\xf0\xff\xff\xff");
    let webp = [&simple[..4], &[0xff; 4], &simple[8..12], &extended, &simple[12..], &exif].concat();
    vec![
        ("a profile", png(b"iCCP", b"a\0\0")),
        ("a text", png(b"zTXt", b"a\0\0")),
        ("another text", png(b"iTXt", b"a\0\x01\0\0\0")),
        ("EXIF", webp),
    ]
}

#[test]
fn fuzz() {
    let seconds = std::env::var("RANKLE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    const ODD: &str = "RANKLE_FUZZ_ODD";
    let odd = std::env::var_os(ODD).is_some();
    let other = (!odd).then(|| {
        let this = std::env::current_exe().expect("this test binary");
        Command::new(this).args(["--exact", "fuzz", "--nocapture"]).env(ODD, "").spawn().expect("starts")
    });
    // What is said of a file beside its error is nobody's here.
    say::speak_for(1);
    let (begun, all, root) = (Instant::now(), targets(), tempfile::tempdir().expect("a folder"));
    for target in &all {
        let folder = root.path().join(target.name);
        target.files.iter().for_each(|(name, bytes)| target.write(&folder, name, bytes.clone()));
        (target.read)(&folder).unwrap_or_else(|error| panic!("{} is sound: {error:#}", target.name));
    }
    for (name, bytes) in bombs() {
        LARGEST.store(0, Ordering::Relaxed);
        let read = picture::decode(&bytes, name);
        assert!(read.is_ok() || name == "EXIF", "{name}: {:?}", read.err());
        assert!(LARGEST.load(Ordering::Relaxed) <= BOUND, "{name}: {LARGEST:?} bytes at once");
    }
    let mut rounds = u64::from(odd);
    while begun.elapsed() < Duration::from_secs(seconds) / 2 {
        for (number, target) in all.iter().enumerate() {
            let mut rng = seed::at(1, rounds, number as u64);
            let (name, sound) = &target.files[rng.random_range(0..target.files.len())];
            let (folder, mut bytes) = (root.path().join(target.name), sound.clone());
            changed(&mut bytes, &mut rng);
            target.write(&folder, name, bytes);
            LARGEST.store(0, Ordering::Relaxed);
            let read = say::caught(|| (target.read)(&folder));
            let largest = LARGEST.load(Ordering::Relaxed);
            let kept = || {
                let kept = std::env::temp_dir().join(format!("fuzz-{rounds}-{number}"));
                let _ = std::fs::copy(folder.join(name), &kept);
                format!("{} {name}, kept as {}", target.name, kept.display())
            };
            match read {
                Err(panic) => panic!("{}: it panicked: {panic}", kept()),
                Ok(Err(error)) => {
                    let text = say::one_line(&error);
                    assert!(!text.is_empty() && !text.contains("frame #"), "{}: {text}", kept());
                }
                Ok(Ok(())) => {}
            }
            assert!(largest <= target.bound, "{}: {largest} bytes at once", kept());
            target.write(&folder, name, sound.clone());
        }
        rounds += 2;
    }
    println!("{} rounds over {} parsers", rounds / 2, all.len());
    assert!(rounds > 1);
    assert!(other.is_none_or(|mut other| other.wait().expect("ends").success()), "the odd rounds: see above");
}
