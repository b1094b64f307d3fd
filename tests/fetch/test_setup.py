"""scripts/setup, without and with --cpu: PyTorch's builds from an index on 127.0.0.1."""

import os
import shutil
import unittest

from common import ROOT, Case
from server import page, whole
from test_packages import OTHER, wheel


class Setup(Case):
    def set_up(self, *words, code=0, **more):
        place = self.folder / "checkout"
        (place / "scripts").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "scripts/setup", place / "scripts")
        hidden = ("LIBTORCH", "RANKLE_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")
        env = {name: value for name, value in os.environ.items() if name not in hidden}
        return place, self.run_words(["bash", place / "scripts/setup", *words], code, timeout=300, env={**env, **OTHER, **more})

    def test_the_build_for_cpus(self):
        torch = {"torch/__init__.py": b"", "torch/version.py": b"__version__ = '2.11.0+cpu'\n", "torch/lib/libtorch_cpu.so": b"",
                 "torch/include/torch/all.h": b""}
        for index, name, version, members in (("cpu", "torch", "2.11.0+cpu", torch), ("simple", "numpy", "2.0.0", {"numpy.py": b""})):
            file = f"{name}-{version}-py3-none-any.whl"
            url = self.host.serve(f"/files/{file.replace('+', '%2B')}", whole(wheel(members, name, version)))
            self.host.serve(f"/{index}/{name}/", page(f'<a href="{url}">{file}</a>'))
        place, run = self.set_up("--cpu", RANKLE_TORCH_INDEX=self.host.url + "/cpu", PIP_INDEX_URL=self.host.url + "/simple")
        self.assertIn("libtorch 2.11.0+cpu (.venv, just installed)", run.stdout)
        self.assertIn("CPU only", run.stdout)
        self.assertTrue((place / ".libtorch/lib/libtorch_cpu.so").exists())
        self.assertEqual((place / ".libtorch/index").read_text().strip(), self.host.url + "/cpu")

    def test_an_index_that_cannot_be_reached(self):
        place, run = self.set_up("--cpu", code=1, RANKLE_TORCH_INDEX="http://127.0.0.1:1/cpu")
        last = run.stderr.splitlines()[-1]
        self.assertIn("not to be had from http://127.0.0.1:1/cpu: run scripts/setup without --cpu", last)
        self.assertEqual([path.name for path in place.iterdir()], ["scripts"])

    def test_what_the_build_for_cpus_saves(self):
        run = self.set_up(code=1, PIP_INDEX_URL=self.host.url + "/simple")[1]
        gpu = os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi")
        self.assertEqual("scripts/setup --cpu would take PyTorch's build for CPUs, about 1 GB in place of 4.7" in run.stdout, not gpu)

    def test_another_flag(self):
        self.assertIn("--gpu: the one flag is --cpu", self.set_up("--gpu", code=1)[1].stderr)


if __name__ == "__main__":
    unittest.main()
