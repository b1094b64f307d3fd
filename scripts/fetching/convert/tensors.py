"""Weights as .safetensors, by the names that our networks read. A tensor is (shape, array of floats)."""

import json
import sys
from array import array
from math import prod

from ..problems import Problem


def floats(data):
    """An array of little-endian float32 bytes."""
    values = array("f", bytes(data))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def each(function, *arrays):
    """`function` of numbers of the same place, computed in float64 and rounded once."""
    return array("f", map(function, *arrays))


def turned(shape, values):
    """TensorFlow's [height, width, in, out] or [in, out] as PyTorch's [out, in, height, width] or [out, in]."""
    *kernel, inputs, outputs = shape
    places = prod(kernel)
    out = array("f", bytes(4 * len(values)))
    for row in range(places * inputs):
        place, channel = divmod(row, inputs)
        out[channel * places + place :: inputs * places] = values[row * outputs : (row + 1) * outputs]
    return (outputs, inputs, *kernel), out


def save(tensors, path):
    """Writes named tensors as .safetensors, in the order of their names."""
    header, start, data = {}, 0, []
    for name, (shape, values) in sorted(tensors.items()):
        if prod(shape) != len(values):
            raise Problem(f"{name} has {len(values)} numbers and the shape {list(shape)}: fetch it again")
        end = start + 4 * len(values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
        data.append(array("f", values))
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in data:
            if sys.byteorder == "big":
                values.byteswap()
            file.write(values)
