//! Build script: compiles the small C++ files of `src/native` against libtorch and makes every binary, test
//! and benchmark of this package find libtorch at run time without `LD_LIBRARY_PATH`.

use std::path::{Path, PathBuf};

/// C++ files that need libtorch's own headers, and CUDA's for what is a GPU's alone.
const SOURCES: [&str; 6] = [
    "src/native/autocast.cpp",
    "src/native/graph.cpp",
    "src/native/ops.cpp",
    "src/native/optim.cpp",
    "src/native/trace.cpp",
    "src/native/transfer.cpp",
];

/// Needs the names of gloo's headers too, and NCCL's where it is to be there.
const COLLECTIVES: &str = "src/native/collectives.cpp";

fn main() {
    for file in SOURCES {
        println!("cargo:rerun-if-changed={file}");
    }
    for file in ["guarded.h", "of_cuda.h"] {
        println!("cargo:rerun-if-changed=src/native/{file}");
    }
    println!("cargo:rerun-if-changed=src/native/build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("DOCS_RS").is_some() {
        return;
    }
    let torch = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_else(|| PathBuf::from(".libtorch"));
    let lib = torch.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        println!("cargo:warning=no libtorch at {}: run scripts/setup", torch.display());
        std::process::exit(1);
    }

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        .opt_level(1)
        .include(torch.join("include"))
        .include(torch.join("include/torch/csrc/api/include"))
        .define("GLIBCXX_USE_CXX11_ABI", "1");
    let has_cuda = cuda(&mut build, &torch);
    println!("cargo:rerun-if-changed={COLLECTIVES}");
    let mut sources = SOURCES.to_vec();
    if std::env::var_os("CARGO_FEATURE_DISTRIBUTED").is_some() {
        collectives(&mut build, &torch, has_cuda);
        sources.push(COLLECTIVES);
    }
    // As one: libtorch's headers take longer to read than the files to compile.
    let at = |file: &str| format!("#include \"{}\"\n", Path::new(env!("CARGO_MANIFEST_DIR")).join(file).display());
    let all = out().join("all.cpp");
    std::fs::write(&all, sources.into_iter().map(at).collect::<String>()).expect("OUT_DIR can be written");
    build.file(all);
    build.compile("rankle_native");
    // The real folder, so that a moved symbolic link is no surprise.
    let real = lib.canonicalize().unwrap_or(lib);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", real.display());
}

fn out() -> PathBuf {
    PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
}

/// c10d's headers name gloo's, which libtorch does not bring: `collectives.cpp` declares the few types itself, and
/// empty files stand where gloo's would. NCCL's own header needs CUDA's, which PyPI's packages put beside torch.
fn collectives(build: &mut cc::Build, torch: &Path, has_cuda: bool) {
    let out = out().join("names");
    for name in ["algorithm.h", "context.h", "common/error.h", "rendezvous/store.h", "transport/device.h"] {
        let path = out.join("gloo").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("OUT_DIR can be written");
        std::fs::write(&path, "").expect("OUT_DIR can be written");
    }
    build.include(out).define("USE_C10D_GLOO", None);
    let nccl = nvidia(torch).join("nccl/include");
    if has_cuda && nccl.join("nccl.h").exists() {
        build.include(nccl).define("USE_C10D_NCCL", None).define("RANKLE_NCCL", None);
    }
}

/// Where PyPI's packages of CUDA stand.
fn nvidia(torch: &Path) -> PathBuf {
    // lib is <site-packages>/torch/lib behind its link.
    let lib = torch.join("lib").canonicalize().unwrap_or_default();
    lib.ancestors().nth(2).map(|site| site.join("nvidia")).unwrap_or_default()
}

/// Adds CUDA's headers where they and libtorch's part for it are; whether they are.
fn cuda(build: &mut cc::Build, torch: &Path) -> bool {
    let cuda = nvidia(torch).join("cu13/include");
    let needed = [
        cuda.join("cuda_runtime_api.h"),
        cuda.join("crt/host_defines.h"),
        cuda.join("cccl/cuda/std/utility"),
        torch.join("lib/libtorch_cuda.so"),
    ];
    let all = needed.iter().all(|path| path.exists());
    if all {
        build.include(cuda.join("cccl")).include(cuda).define("RANKLE_CUDA", None);
    }
    all
}
