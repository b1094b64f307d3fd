//! What a hostile or a very old program may write, by hand.

use std::io::Write;

use rankle::weights::read;

use super::{Named, refusal};

const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A file of before PyTorch 1.6 with this object; `storages` are keys and numbers, float32.
fn legacy(object: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let mut bytes =
        [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.", b"\x80\x02"].concat();
    bytes.extend(object);
    bytes.extend(b".\x80\x02](");
    for (key, _) in storages {
        bytes.extend(text(key));
    }
    bytes.extend(b"e.");
    for (_, numbers) in storages {
        bytes.extend((numbers.len() as u64).to_le_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &number.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|&number| int(number)).collect::<Vec<_>>())
}

fn storage(class: &str, key: &str, count: i64, part: &[u8]) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n").into_bytes();
    [tuple(&[text("storage"), class, text(key), text("cpu"), int(count), part.to_vec()]), b"Q".to_vec()].concat()
}

fn call(function: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    [format!("c{function}\n").into_bytes(), tuple(arguments), b"R".to_vec()].concat()
}

fn tensor(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = call("collections\nOrderedDict", &[]);
    let arguments = [storage, int(offset), ints(size), ints(stride), b"\x89".to_vec(), hooks];
    call("torch._utils\n_rebuild_tensor_v2", &arguments)
}

/// A dictionary of one tensor, `a`.
fn one(tensor: Vec<u8>) -> Vec<u8> {
    [b"}".to_vec(), text("a"), tensor, b"s".to_vec()].concat()
}

/// Written to a file and read.
fn read_bytes(bytes: &[u8]) -> (anyhow::Result<Named>, tempfile::TempPath) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let path = file.into_temp_path();
    (read(&path), path)
}

#[track_caller]
pub fn refused(bytes: &[u8], says: &str) {
    let (result, path) = read_bytes(bytes);
    let error = refusal(result, &path);
    assert!(error.contains(says), "{error}");
}

#[test]
fn what_old_versions_wrote_is_read() {
    let numbers: &[f32] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let plain = || storage("FloatStorage", "k", 6, b"N");
    let answer = |object: &[u8]| {
        let (result, _path) = read_bytes(&legacy(object, &[("k", numbers)]));
        let tensors = result.unwrap_or_else(|e| panic!("{e:#}"));
        tensors
            .into_iter()
            .map(|(name, x)| (name, x.size(), Vec::<f32>::try_from(x.flatten(0, -1)).unwrap()))
            .collect::<Vec<_>>()
    };
    let is = |size: &[i64], values: &[f32]| vec![("a".to_string(), size.to_vec(), values.to_vec())];
    assert_eq!(answer(&one(tensor(plain(), 1, &[2, 2], &[1, 2]))), is(&[2, 2], &[1.0, 3.0, 2.0, 4.0]));
    // Storages that are parts of others, their tensors' offsets on top of theirs.
    let part = storage("FloatStorage", "k", 6, &tuple(&[text("p"), int(2), int(3)]));
    assert_eq!(answer(&one(tensor(part, 1, &[2], &[1]))), is(&[2], &[3.0, 4.0]));
    // The first _rebuild_tensor, and Parameter with attributes set afterwards.
    let first = call("torch._utils\n_rebuild_tensor", &[plain(), int(4), ints(&[2]), ints(&[1])]);
    let parameter =
        [call("torch.nn.parameter\nParameter", &[first]), tuple(&[b"\x88".to_vec(), b"N".to_vec()]), b"b".to_vec()]
            .concat();
    assert_eq!(answer(&one(parameter)), is(&[2], &[4.0, 5.0]));
    // Python 2's OrderedDict, with its items as the argument, and its byte strings; of a name given twice the last counts.
    let short = |key: &str| [b"U".to_vec(), vec![key.len() as u8], key.into()].concat();
    let pair = |x: Vec<u8>| [b"](".to_vec(), short("a"), x, b"e".to_vec()].concat();
    let items = [b"](".to_vec(), pair(b"N".to_vec()), pair(tensor(plain(), 0, &[1], &[1])), b"e".to_vec()].concat();
    let (result, path) = read_bytes(&legacy(&call("collections\nOrderedDict", &[items]), &[("k", numbers)]));
    assert!(refusal(result, &path).contains("no tensor"));
    let items =
        [b"](".to_vec(), pair(tensor(plain(), 5, &[1], &[1])), pair(tensor(plain(), 0, &[1], &[1])), b"e".to_vec()]
            .concat();
    assert_eq!(answer(&call("collections\nOrderedDict", &[items])), is(&[1], &[0.0]));
    // A list that contains itself, somewhere beside.
    let cycle = [
        b"}".to_vec(),
        text("loop"),
        b"]q\x01h\x01as".to_vec(),
        text("state_dict"),
        one(tensor(plain(), 5, &[], &[])),
        b"s".to_vec(),
    ]
    .concat();
    assert_eq!(answer(&cycle), is(&[], &[5.0]));
    // Among other things, as training programs save it.
    let under = |name: &str, inner: Vec<u8>| {
        [b"}".to_vec(), text("epoch"), int(3), b"s".to_vec(), text(name), inner, b"s".to_vec()].concat()
    };
    for name in ["model", "model_state_dict", "net", "state_dict"] {
        assert_eq!(answer(&under(name, one(tensor(plain(), 5, &[], &[])))), is(&[], &[5.0]));
    }
    assert_eq!(answer(&under("model", under("state_dict", one(tensor(plain(), 5, &[], &[]))))), is(&[], &[5.0]));
}

#[test]
fn pickles_that_mean_harm_are_refused() {
    let numbers: &[f32] = &[0.0; 6];
    let with = |object: &[u8]| legacy(object, &[("k", numbers)]);
    let alone = |object: &[u8]| legacy(object, &[]);
    let plain = || storage("FloatStorage", "k", 6, b"N");
    let shaped = |offset: i64, size: &[i64], stride: &[i64]| with(&one(tensor(plain(), offset, size, stride)));
    // A program: nothing of it is run.
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("run");
    let touch = call("posix\nsystem", &[text(&format!("touch {}", marker.display()))]);
    refused(&with(&one(touch)), "posix.system");
    refused(&with(b"cbuiltins\neval\n"), "builtins.eval");
    refused(&with(b"ctorch\nload\n"), "torch.load");
    assert!(!marker.exists());
    // Sizes, strides and offsets that leave the storage or the file, or overflow.
    let most = i64::MAX;
    for (offset, size, stride) in [
        (0, vec![7], vec![1]),
        (6, vec![1], vec![1]),
        (-1, vec![1], vec![1]),
        (0, vec![-1], vec![1]),
        (0, vec![2], vec![-1]),
        (0, vec![2, 2], vec![1]),
        (0, vec![2], vec![6]),
        (0, vec![2], vec![most]),
        (most, vec![2], vec![1]),
        (most, vec![2, 3], vec![most, most]),
        (0, vec![most], vec![0]),
        (0, vec![1 << 40], vec![0]),
        (0, vec![1 << 32, 1 << 32], vec![0, 0]),
        (0, vec![0, most, most], vec![1, 1, 1]),
        (0, vec![0, 1 << 50], vec![1, 1]),
        (0, vec![1; 33], vec![1; 33]),
    ] {
        refused(&shaped(offset, &size, &stride), "");
    }
    // Storages that are described wrongly, or not there.
    refused(&with(&one(tensor(storage("FloatStorage", "k", 7, b"N"), 0, &[1], &[1]))), "another length");
    refused(&with(&one(tensor(storage("FloatStorage", "k", -1, b"N"), 0, &[1], &[1]))), "outside");
    refused(
        &with(&one(tensor(storage("FloatStorage", "k", 6, &tuple(&[text("p"), int(4), int(3)])), 0, &[1], &[1]))),
        "outside",
    );
    refused(
        &with(&one(tensor(storage("FloatStorage", "k", 6, &tuple(&[text("p"), int(2), int(2)])), 1, &[2], &[1]))),
        "outside",
    );
    refused(&with(&one(tensor(storage("QInt8Storage", "k", 6, b"N"), 0, &[1], &[1]))), "QInt8Storage");
    refused(&with(&one(tensor(storage("FloatStorage", "other", 6, b"N"), 0, &[1], &[1]))), "\"k\"");
    refused(&legacy(&one(tensor(plain(), 0, &[1], &[1])), &[]), "\"k\" is missing");
    let two = [
        b"}".to_vec(),
        text("a"),
        tensor(plain(), 0, &[1], &[1]),
        b"s".to_vec(),
        text("b"),
        tensor(storage("IntStorage", "k", 6, b"N"), 0, &[1], &[1]),
        b"s".to_vec(),
    ]
    .concat();
    refused(&with(&two), "two ways");
    let mut claims = with(&one(tensor(storage("FloatStorage", "k", most, b"N"), 0, &[1], &[1])));
    let head = claims.len() - 8 - 24;
    claims[head..head + 8].copy_from_slice(&(most as u64).to_le_bytes());
    refused(&claims, "cut short");
    refused(
        &legacy(&one(tensor(storage("BoolStorage", "k", 4, b"N"), 0, &[1], &[1])), &[("k", &[])]),
        "another length",
    );
    // Nested a million deep, doubled over and over, copied over and over, and other ways to fill a memory.
    refused(&alone(&[b"N".to_vec(), vec![0x85; 1_000_000]].concat()), "no dictionary");
    refused(&alone(&[b"]q\x01".to_vec(), b"h\x01h\x01\x86q\x01".repeat(100_000)].concat()), "no dictionary");
    let items = [b"](".to_vec(), b"NN\x86".repeat(100_000), b"eq\x01".to_vec()].concat();
    let again = b"ccollections\nOrderedDict\nh\x01\x85R0".repeat(10_000);
    refused(&alone(&[items, again].concat()), "over and over");
    refused(&alone(b"X\xff\xff\xff\xff"), "cut short");
    refused(&alone(b"r\xff\xff\xff\xff"), "empty stack");
    refused(&alone(b"]r\xff\xff\xff\xff"), "no dictionary");
    for broken in
        ["0", "t", "h\x05", "(s", "]Ns", "}NNas", "}(Nu", "NR", "NNR", "NQ", ")Q", "(0", "b", "Nb", "\u{7f}", "c\n"]
    {
        refused(&alone(broken.as_bytes()), "");
    }
    // The other parts of the file.
    refused(MAGIC, "cut short");
    refused(&[MAGIC, b"\x80\x02M\xea\x03.\x80\x02N.\x80\x02N.\x80\x02]."].concat(), "unknown version");
    let big = [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}X\x0d\x00\x00\x00little_endian\x89s.", b"\x80\x02}.\x80\x02]."]
        .concat();
    refused(&big, "big-endian");
    refused(&[MAGIC, b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}.\x80\x02](Ke."].concat(), "damaged");
}

/// All 256 operations, each where Python would call os.system: what runs code there is an error here, whatever its form.
#[test]
fn no_operation_of_a_pickle_runs_anything() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("run");
    let command = format!("touch {}", marker.display());
    let short = |text: &str| [vec![0x8c, text.len() as u8], text.as_bytes().to_vec()].concat();
    let line = |text: &str| [b"S'", text.as_bytes(), b"'\n"].concat();
    let evil = b"cos\nsystem\n".to_vec();
    let programs = [
        ("GLOBAL and REDUCE", [evil.clone(), tuple(&[text(&command)]), b"R".to_vec()].concat()),
        ("INST", [b"(".to_vec(), line(&command), b"ios\nsystem\n".to_vec()].concat()),
        ("OBJ", [b"(".to_vec(), evil.clone(), text(&command), b"o".to_vec()].concat()),
        ("NEWOBJ", [evil.clone(), tuple(&[text(&command)]), vec![0x81]].concat()),
        ("NEWOBJ_EX", [evil.clone(), tuple(&[text(&command)]), b"}".to_vec(), vec![0x92]].concat()),
        ("STACK_GLOBAL", [short("os"), short("system"), vec![0x93], tuple(&[text(&command)]), b"R".to_vec()].concat()),
        ("EXT1", vec![0x82, 1]),
        ("PERSID", b"P0\n".to_vec()),
        ("BUILD with a __setstate__", [b"cbuiltins\neval\n".to_vec(), tuple(&[text("1")]), b"b".to_vec()].concat()),
        ("a storage for a function", [storage("FloatStorage", "k", 6, b"N"), tuple(&[]), b"R".to_vec()].concat()),
        ("a name with dots", b"ctorch\n_utils.sys.modules\n".to_vec()),
        ("getattr", call("builtins\ngetattr", &[evil.clone(), text("__call__")])),
        ("a reduction hook", call("copyreg\n_reconstructor", &[evil.clone(), b"N".to_vec(), b"N".to_vec()])),
    ];
    for (what, program) in &programs {
        let (result, path) = read_bytes(&legacy(&one(program.clone()), &[("k", &[0.0; 6])]));
        let error = refusal(result, &path);
        assert!(!error.is_empty() && !marker.exists(), "{what}: {error}");
    }
    for code in 0..=255_u8 {
        for before in [b"".to_vec(), evil.clone(), [evil.clone(), tuple(&[text(&command)])].concat()] {
            let program = [before, vec![code], b"os\nsystem\n".to_vec(), b"R".to_vec()].concat();
            let (result, path) = read_bytes(&legacy(&program, &[("k", &[0.0; 6])]));
            refusal(result, &path);
            assert!(!marker.exists(), "{code:#04x}");
        }
    }
}

#[test]
fn zips_that_mean_harm_are_refused() {
    use zip::write::{SimpleFileOptions, ZipWriter};
    let pickle =
        [b"\x80\x02".to_vec(), one(tensor(storage("FloatStorage", "0", 1, b"N"), 0, &[1], &[1])), b".".to_vec()]
            .concat();
    let make = |entries: &[(&str, &[u8])], method| {
        let mut file = std::io::Cursor::new(Vec::new());
        let mut zip = ZipWriter::new(&mut file);
        for (name, bytes) in entries {
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        file.into_inner()
    };
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    let number: &[u8] = &1.5_f32.to_le_bytes();
    let good = make(&[("m/data.pkl", &pickle), ("m/byteorder", b"little"), ("m/data/0", number)], stored);
    let (tensors, _path) = read_bytes(&good);
    assert_eq!(tensors.unwrap()[0].1.double_value(&[0]), 1.5);
    refused(&make(&[("m/data.pkl", &pickle), ("m/byteorder", b"big"), ("m/data/0", number)], stored), "big-endian");
    refused(&make(&[("m/data.pkl", &pickle), ("m/data/0", number)], deflated), "compressed");
    refused(&make(&[("m/data.pkl", &pickle), ("m/data/0", &[0; 8])], stored), "8 bytes");
    refused(&make(&[("m/data.pkl", &pickle)], stored), "m/data/0");
    refused(&make(&[("data.pkl", &pickle)], stored), "no data.pkl");
    refused(&make(&[("m/data.pkl", b"")], stored), "cut short");
    // NumPy's arrays, by hand: headers that lie, and a .npz that is none.
    let npy = |header: &str, numbers: &[u8]| {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), numbers].concat()
    };
    let plain = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let (tensors, _path) = read_bytes(&make(&[("arr_0.npy", &npy(&plain("(1,)"), number))], deflated));
    assert_eq!(tensors.unwrap()[0].1.double_value(&[0]), 1.5);
    for (header, says) in [
        (plain("(2,)"), "says otherwise"),
        (plain("(4294967296, 4294967296)"), "says otherwise"),
        (plain("(-1,)"), "shape"),
        (plain("(99999999999999999999,)"), "no numbers"),
        (plain("1"), "no shape"),
        (plain("(1,)").replace("<f4", "|O"), "never objects"),
        (plain("(1,)").replace("<f4", ">f4"), "little-endian"),
        (plain("(1,)").replace("'<f4'", "[('a', '<f4')]"), "records"),
        (plain("(1,)").replace("False", "True"), "Fortran"),
        ("cos\nsystem\n(S'true'\ntR.".into(), "no kind"),
    ] {
        refused(&make(&[("arr_0.npy", &npy(&header, number))], stored), says);
    }
    refused(&make(&[("arr_0.npy", b"\x93NUMPY\x01\x00\xff\xff{}")], stored), "cut short");
    refused(&make(&[("arr_0.npy", b"\x80\x02cos\nsystem\n")], stored), "no array of NumPy's");
    refused(&make(&[("arr_0.npy", &npy(&plain("(30000000,)"), &vec![0; 120_000_000]))], deflated), "far more than");
    // An entry that claims more than the file has, in both of its headers.
    let mut claims = good.clone();
    let name = b"m/data/0";
    let places: Vec<usize> = (0..good.len() - 8).filter(|&at| &good[at..at + 8] == name).collect();
    assert_eq!(places.len(), 2);
    for (at, header) in [(places[0], 30), (places[1], 46)] {
        let sizes = if header == 30 { at - 12 } else { at - 26 };
        claims[sizes..sizes + 4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        claims[sizes + 4..sizes + 8].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    }
    refused(&claims, "");
}

#[test]
fn what_is_no_file_of_weights_is_said_to_be_none() {
    refused(b"", "neither");
    refused(b"<!DOCTYPE html><html><body>404</body></html>", "neither");
    refused(b"version https://git-lfs.github.com/spec/v1\n", "neither");
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    refused(&tar, "tar");
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(read(folder.path()), folder.path()).contains("is a folder"));
    let absent = folder.path().join("absent.pth");
    assert!(refusal(read(&absent), &absent).contains("cannot read"));
}
