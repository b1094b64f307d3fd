//! Build script: compiles the small C++ files of `src/native` against libtorch and makes every binary, test
//! and benchmark of this package find libtorch (CUDA included) at run time without `LD_LIBRARY_PATH`.

use std::path::{Path, PathBuf};

/// C++ files that only need libtorch's own headers.
const SOURCES: [&str; 4] =
    ["src/native/autocast.cpp", "src/native/ops.cpp", "src/native/optim.cpp", "src/native/trace.cpp"];

fn main() {
    for file in SOURCES {
        println!("cargo:rerun-if-changed={file}");
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
    for file in SOURCES {
        build.file(file);
    }
    build.compile("rankle_native");
    link(&lib);
}

/// The linker would drop libtorch_cuda.so, to which nothing refers by name, and training would run on the CPU in
/// silence; `--no-as-needed` keeps it. The rpath is the real folder, so that a moved symbolic link is no surprise.
fn link(lib: &Path) {
    let real = lib.canonicalize().unwrap_or_else(|_| lib.to_path_buf());
    println!("cargo:rustc-link-arg=-L{}", real.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", real.display());
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch");
    if real.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-arg=-ltorch_cuda");
    }
}
