//! What a network starts from: which file, and which of its tensors go where.

use std::path::Path;

use anyhow::{Result, anyhow};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::load::load_into;
use super::{Named, lasagne, read, read_sealed};
use crate::catalog;
use crate::models::{AlexNet, BnInception, IMAGENET, QuadrupletNet};
use crate::say::one_line;

/// How a published file fits a network of ours: what is left out and what it doesn't have, by the start of a name.
/// Everything else must be in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The flag that names the file, for errors.
    pub flag: &'static str,
    /// Such files by their names in data/datasets.json, for errors to say how to get one: that of the file's own name, or
    /// the first.
    pub fetch: &'static [&'static str],
    /// Tensors of the file that have no part in the network.
    pub skip: &'static [&'static str],
    /// Variables of the network that the file needn't have and that stay as they were initialised.
    pub fresh: &'static [&'static str],
    /// Where not empty, the only tensors and variables that take part.
    pub only: &'static [&'static str],
    /// How the file's tensors become ours.
    pub conversion: Conversion,
}

/// How a file's tensors become those of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// As they are.
    Plain,
    /// Those of a run's checkpoint: what follows `model.`.
    Checkpoint,
    /// Where the named convolution of ours has other channels than the file's, each of them gets the mean over the
    /// file's (how temporal segment networks start on flow); rows `[1, n]` for vectors, as the first port of
    /// BN-Inception has them in its normalisation, become vectors.
    FirstAveraged(&'static str),
    /// Of [`TriNet::caffe`](crate::models::TriNet::caffe), which sees colours in 0..255: Lasagne's list of arrays without
    /// names; or a ResNet-50 without a head of ours, whose first layer expects torchvision's normalisation.
    Caffe,
}

impl Published {
    /// The same where the file must have all of the network.
    pub fn whole(self) -> Published {
        Published { fetch: if self.fresh.is_empty() { self.fetch } else { &[] }, fresh: &[], ..self }
    }

    /// A file that has all of the network and nothing else.
    pub const WHOLE: Published =
        Published { flag: "--weights", fetch: &[], skip: &[], fresh: &[], only: &[], conversion: Conversion::Plain };
    /// A run's checkpoint of the same network.
    pub const CHECKPOINT: Published =
        Published { flag: "--start", conversion: Conversion::Checkpoint, ..Published::WHOLE };
    /// torchvision's ResNet-50 as TriNet's backbone, below a new head.
    pub const RESNET50: Published =
        Published { fetch: &["resnet50"], skip: &["fc."], fresh: &["head."], ..Published::WHOLE };
    /// TriNet by Caffe's ResNet-50: the authors' (`trinet-market1501.npz`, `trinet-mars.npz`), or He et al.'s ImageNet weights
    /// below a new head.
    pub const TRINET: Published = Published {
        conversion: Conversion::Caffe,
        fetch: &["resnet50-he", "trinet-market1501", "trinet-mars"],
        ..Published::RESNET50
    };
    /// torchvision's GoogLeNet below a new embedding; torchvision says that its two auxiliary heads are not trained.
    pub const GOOGLENET: Published = Published {
        fetch: &["googlenet"],
        skip: &["fc.", "aux1.", "aux2."],
        fresh: &["embedding."],
        ..Published::WHOLE
    };
    /// A face network that comes with a classifier: facenet-pytorch's, OpenFace's.
    pub const FACES: Published = Published { skip: &["logits."], ..Published::WHOLE };
    /// Inception-ResNet-v1 as facenet-pytorch has it.
    pub const INCEPTION_RESNET_V1: Published =
        Published { fetch: &["facenet-casia-20180408", "facenet-casia", "facenet-vggface2"], ..Published::FACES };
    /// OpenFace's nn4.small2, a smaller NN4 on 96x96 aligned faces.
    pub const NN4_SMALL2: Published = Published { fetch: &["openface-nn4-small2"], ..Published::FACES };
    /// The face detector MTCNN (P-, R- and O-Net), as facenet-pytorch publishes it.
    pub const MTCNN: Published = Published { flag: "--detector", fetch: &["mtcnn"], ..Published::WHOLE };
    /// torchvision's VGG16 to fc7, whatever is built upon it.
    pub const VGG16: Published = Published {
        fetch: &["vgg16"],
        skip: &["classifier.6."],
        only: &["features.", "classifier."],
        ..Published::WHOLE
    };
    /// conv1 and conv2 of torchvision's AlexNet (1704.01719, Section 5.1).
    pub const ALEXNET_CONV2: Published =
        Published { fetch: &["alexnet"], only: &QuadrupletNet::FROM_IMAGENET, ..Published::WHOLE };
    /// conv1 and conv2 of Caffe's AlexNet or CaffeNet under the same names; no file that is known has them so.
    pub const CAFFE_CONV2: Published = Published { fetch: &[], ..Published::ALEXNET_CONV2 };
    /// torchvision's AlexNet as a scorer of snippets, below a new score.
    pub const ALEXNET: Published = Published {
        fetch: &["alexnet"],
        skip: &["classifier.6."],
        fresh: &["score."],
        conversion: Conversion::FirstAveraged(AlexNet::FIRST),
        ..Published::WHOLE
    };
    /// Cadene's BN-Inception as a scorer of snippets, below a new score.
    pub const BN_INCEPTION: Published = Published {
        fetch: &["bn-inception"],
        skip: &["last_linear."],
        fresh: &["score."],
        conversion: Conversion::FirstAveraged(BnInception::FIRST),
        ..Published::WHOLE
    };
}

/// Loads the published `file` into the network of `store`; returns a line that says what was done.
///
/// # Errors
/// As [`read`] and [`load_into`], with the flag and the command that gets a file that fits; where none is known, and this one
/// is missing or damaged, the one that gets it. After an error all variables are as they were.
pub fn start(store: &VarStore, file: &Path, published: &Published) -> Result<String> {
    let own = catalog::name_of(file);
    let fits = published.fetch.iter().copied();
    let fits = fits.clone().find(|name| own == Some(name)).or(fits.clone().next());
    let with = |name: Option<&'static str>| {
        move |error: anyhow::Error| {
            // Of a file that is not there by the name of a known one the error says so itself.
            let name = name.filter(|_| own.is_none() || file.exists());
            let get = |name| format!(" ({} gets {})", catalog::fetch(name), catalog::title(name));
            anyhow!("{}: {}{}", published.flag, one_line(&error), name.map_or(String::new(), get))
        }
    };
    let (tensors, note) = arranged(store, file, published.conversion).map_err(with(fits.or(own)))?;
    let any = |names: &[&str], name: &str| names.iter().any(|start| name.starts_with(start));
    let part = |name: &str| published.only.is_empty() || any(published.only, name);
    let rename = |name: &str| (part(name) && !any(published.skip, name)).then(|| name.to_string());
    let loaded = load_into(store, file, tensors, rename, |name| part(name) && !any(published.fresh, name));
    Ok(format!("weights: {} ({}{note})", file.display(), loaded.map_err(with(fits))?))
}

/// Takes off the names what wrappers put there: `module.` (data parallelism, averages) and `_orig_mod.` (compilation)
/// anywhere, and one name before all of a network that was a part of something. Words where there was any.
fn bare(store: &VarStore, tensors: &mut Named) -> String {
    let variables = store.variables();
    let mut gone = std::collections::BTreeSet::new();
    let own = |part: &str| variables.keys().any(|name| name.split('.').any(|known| known == part));
    let wrappers: Vec<&str> = ["module", "_orig_mod"].into_iter().filter(|part| !own(part)).collect();
    for (name, _) in tensors.iter_mut() {
        let (off, kept): (Vec<&str>, Vec<&str>) = name.split('.').partition(|part| wrappers.contains(part));
        gone.extend(off.into_iter().map(|part| format!("{part}.")));
        *name = kept.join(".");
    }
    let whole = ["model.", "net.", "network.", "encoder.", "backbone."];
    let before = |start: &&&str| {
        // A counter stands beside the whole.
        tensors.iter().all(|(name, _)| name.starts_with(**start) || !name.contains('.'))
            && !variables.keys().any(|name| name.starts_with(**start))
    };
    if let Some(start) = whole.iter().find(before) {
        for (name, _) in tensors.iter_mut().filter(|(name, _)| name.starts_with(start)) {
            *name = name[start.len()..].to_string();
            gone.insert(start.to_string());
        }
    }
    let gone: Vec<String> = gone.into_iter().collect();
    if gone.is_empty() { String::new() } else { format!(", {} taken off the names", gone.join(" and ")) }
}

/// The file's tensors by our names, and what was done to them in words.
fn arranged(store: &VarStore, file: &Path, conversion: Conversion) -> Result<(Named, String)> {
    let restore = |error: anyhow::Error| anyhow!("{}: restore what was there, or name another run", one_line(&error));
    let own = conversion == Conversion::Checkpoint;
    let mut tensors = if own { read_sealed(file).map_err(restore)?.0 } else { read(file)? };
    let mut note = if own { String::new() } else { bare(store, &mut tensors) };
    match conversion {
        Conversion::Plain => {}
        Conversion::Checkpoint => {
            let model = |(name, x): (String, _)| name.strip_prefix("model.").map(|name| (name.to_string(), x));
            tensors = tensors.into_iter().filter_map(model).collect();
        }
        Conversion::FirstAveraged(first) => {
            let channels = store.variables().get(first).and_then(|x| x.size().get(1).copied());
            for (name, tensor) in &mut tensors {
                let size = tensor.size();
                if name == first && size.len() == 4 && channels.is_some_and(|channels| channels != size[1]) {
                    let mean = tensor.mean_dim(1, true, None::<Kind>);
                    *tensor = mean.repeat([1, channels.unwrap_or(1), 1, 1]);
                    note += ", the first layer averaged over its colours";
                } else if name.contains("_bn.") && size.len() == 2 && size[0] == 1 {
                    *tensor = tensor.squeeze_dim(0);
                }
            }
        }
        Conversion::Caffe if tensors.iter().any(|(name, _)| name.starts_with("arr_")) => {
            tensors = lasagne::arranged(file, tensors)?;
        }
        Conversion::Caffe if tensors.iter().any(|(name, _)| name.starts_with("head.")) => {}
        Conversion::Caffe => {
            let first = tensors.iter_mut().filter(|(name, x)| name == "conv1.weight" && x.size().get(1) == Some(&3));
            for (_, x) in first {
                *x = &*x / (Tensor::from_slice(&IMAGENET.1.map(|x| x as f32)) * 255.).view([1, 3, 1, 1]);
                note += ", the first layer turned from torchvision's normalisation to 0..255";
            }
        }
    }
    Ok((tensors, note))
}
