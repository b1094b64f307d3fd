"""MTCNN's P-, R- and O-net out of facenet-pytorch's wheel: `pnet.`, `rnet.` or `onet.` before its names.

The files are of torch.save's first form: five pickles (a magic number, a version, the machine, the tensors' places in
storages, the storages' keys), then each storage as its length and its numbers. Nothing a pickle asks for is run.
"""

import collections
import io
import itertools
import pickle
import zipfile
from array import array

from . import published
from .tensors import floats, save

MAGIC = 0x1950A86A20F9469CFC6C


def convert(source, target, options, owned=False):
    found = {}
    with published(source), zipfile.ZipFile(source) as wheel:
        for net in ("pnet", "rnet", "onet"):
            tensors = saved(wheel.read(f"facenet_pytorch/data/{net}.pt"))
            found.update((f"{net}.{name}", tensor) for name, tensor in tensors.items())
    save(found, target)


class Places(pickle.Unpickler):
    """Tensors as (storage's key, offset, shape, strides); of the names a pickle may ask for, those of a state_dict of floats."""

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *tensor: tensor[:4],
            "torch.FloatStorage": None,
        }
        return known[f"{module}.{name}"]

    def persistent_load(self, what):
        return what[2]


def saved(data):
    """name -> tensor of a state_dict."""
    file = io.BytesIO(data)
    magic, _, _, places, keys = (Places(file).load() for _ in range(5))
    if magic != MAGIC:
        raise ValueError("no file of torch.save")
    storages = {key: floats(file.read(4 * int.from_bytes(file.read(8), "little"))) for key in keys}
    out = {}
    for name, (key, offset, shape, strides) in places.items():
        # Some lie in memory as TensorFlow had them.
        steps = [[stride * i for i in range(side)] for side, stride in zip(shape, strides)]
        storage = storages[key]
        out[name] = shape, array("f", (storage[offset + sum(at)] for at in itertools.product(*steps)))
    return out
