"""One data set from nothing to its folder under data/.

All work lies in data/.fetch/NAME: `files/` holds downloads, `made/` what is being made of them. A set takes its
folder by one rename, once its counts are right; a run that is killed leaves its folder away, and the next run goes on.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

from . import check, packages, terms
from .convert import need, run
from .download import Download, verify
from .problems import NotHad, Problem
from .progress import say, size
from .transport import Web
from .unpack import unpack

OTHER_BYTES = """names and counts are right; the bytes are not those that the pages in papers/ were measured on (another \
image library encodes otherwise), so results may differ in the last digits"""


# What the command line says. `root` is the data folder; `given` the paths of --from.
Options = namedtuple("Options", "root given accept keep stall")


def get(entry, options):
    """Has `entry` complete at its place when it returns. Raises Problem."""
    target = options.root / entry.path
    if present(entry, target):
        return
    for module, package in entry.needs.items():
        need(module, package, f"{entry.name} is converted with Python's {package}")
    base = options.root / ".fetch"
    terms.agree(entry, base, options.accept)
    work = base / entry.name
    with locked(work, entry.name):
        # Another run may have finished while this one asked.
        if present(entry, target):
            return
        # Nothing half-made is kept; a run that was killed leaves it to the next.
        discard(work / "made", work / "converted")
        try:
            produce(entry, target, work, options)
        finally:
            discard(work / "made", work / "converted")
        if not options.keep:
            discard(work / "files")
    say(f"{entry.name}: complete in {shown(target)}" + (f". Next: {entry.next}" if entry.next else ""))


def produce(entry, target, work, options):
    """The set in our layout under `work`, checked, then in its place."""
    given = find_given(entry, options.given)
    whole = given.pop("", None)
    room(work, entry, whole)
    if entry.note:
        say(f"{entry.name}: {entry.note}")
    files = {} if whole is not None else obtain(entry, given, work / "files", options)
    made = work / "made"
    try:
        if whole is None:
            build(entry, files, made)
        elif not entry.convert:
            copy_tree(whole, made)
        if entry.convert:
            say(f"{entry.name}: converting ({entry.convert})")
            source, made = whole or made, work / "converted"
            if not entry.single:
                made.mkdir()
            run(entry.convert, source, made, entry.options, whole is None)
        settle(entry, made, target)
    except Problem:
        # What no checksum vouches for may be what was wrong.
        discard(*(work / "files" / file.name for file in entry.files if not file.checksummed))
        raise


def present(entry, target):
    """Whether the set is there already. What is there and is not the set is never touched."""
    if not os.path.lexists(target):
        return False
    found = check.differences(entry, target)
    if found:
        what = f"{shown(target)} is there but is not the set of the list ({'; '.join(found[:4])})"
        raise Problem(f"{what}: move it away, then run the same command")
    say(f"{entry.name}: already complete in {shown(target)}")
    return True


@contextmanager
def locked(work, name):
    """One run a set: the kernel lets go of the lock when a run dies."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        handle = open(work / "lock", "w")
    except OSError as error:
        raise Problem(f"cannot write in {work}: {error.strerror}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Problem(f"another run is fetching {name}: wait for it, or end it") from None
        yield


def find_given(entry, paths):
    """file name -> path for what --from names; "" -> a folder that holds the unpacked set."""
    found = {}
    for path in map(Path, paths):
        if not path.exists():
            raise Problem(f"--from {path}: no such file")
        if not path.is_dir() and not path.is_file():
            raise Problem(f"--from {path}: neither a file nor a folder")
        if path.is_dir():
            inside = {file.name: path / file.name for file in entry.files if (path / file.name).is_file()}
            if inside:
                found.update(inside)
            elif len(paths) == 1:
                return {"": path}
            else:
                raise Problem(f"--from {path}: it holds none of {names(entry)}")
        elif len(entry.files) == 1:
            found[entry.files[0].name] = path
        else:
            match = [file for file in entry.files if Path(file.name).name == path.name]
            if not match:
                raise Problem(f"--from {path}: {entry.name} is made of {names(entry)}; name the file so")
            found[match[0].name] = path
    return found


def names(entry):
    return ", ".join(file.name for file in entry.files[:6]) + (", ..." if len(entry.files) > 6 else "")


def obtain(entry, given, folder, options):
    """Every file of the set: the user's own, or downloaded and verified."""
    paths, web = {}, Web(options.stall, entry.auth)
    known = lambda file: file.urls or file.package or file.name in given or (folder / file.name).exists()
    missing = [file.name for file in entry.files if not known(file)]
    if missing:
        raise Problem(by_hand(entry, missing))
    for file in entry.files:
        if file.name in given:
            wrong = verify(given[file.name], file)
            if wrong:
                raise Problem(f"--from {given[file.name]}: {wrong}; fetch or copy it again")
            paths[file.name] = given[file.name]
            continue
        try:
            if file.package:
                packages.get(file, folder / file.name, options.stall)
            else:
                Download(file, folder / file.name, web).run()
        except NotHad as error:
            steps = "".join(f"\n  - {step}" for step in entry.ask) or f" ({entry.page})"
            again = f"'scripts/fetch {entry.name} --from {Path(file.name).name}'{steps}"
            raise Problem(f"{error}. Run the same command later, or get it another way and say {again}") from None
        paths[file.name] = folder / file.name
    return paths


def by_hand(entry, missing):
    steps = list(entry.ask)
    if not steps or "--from" not in steps[-1]:
        steps.append(f"scripts/fetch {entry.name} --from {' '.join(missing)}")
    numbered = "".join(f"\n  {i}. {step}" for i, step in enumerate(steps, 1))
    return f"needs you for {', '.join(missing)}:{numbered}"


def build(entry, files, made):
    """The files as the published layout, in `made`; for a single file, the file itself."""
    if entry.single:
        copy(files[entry.files[0].name], made)
        return
    made.mkdir()
    for file in entry.files:
        if file.unpack:
            say(f"{entry.name}: unpacking {file.name}")
            unpack(files[file.name], made, file.unpack)
        else:
            copy(files[file.name], made / file.name)


def settle(entry, made, target):
    """Checked, then renamed into place."""
    found = check.differences(entry, made)
    if found:
        what = f"what came of {entry.name} is not the set of the list: {'; '.join(found[:6])}"
        raise Problem(f"{what}. Nothing was put in place; is it another version? {entry.page}")
    for folder, wanted in entry.check.get("usual_contents", {}).items():
        if check.contents(made / folder) != wanted:
            say(f"{entry.name}: {OTHER_BYTES}")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, target)


def room(work, entry, tree=None):
    """Ends before the disk is full rather than when it is."""
    if tree is not None:
        wanted = packages.weight(tree)
    else:
        # Archives of images hardly shrink: what they hold is about what they weigh.
        wanted = sum((file.bytes or 0) * (2 if file.unpack else 1) for file in entry.files) - packages.weight(work / "files")
    free = shutil.disk_usage(work).free
    if wanted > free:
        what = f"needs about {size(wanted)} under {work} and {size(free)} are free"
        raise Problem(f"{what}: make room, or name another disk with --data")


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise Problem(f"cannot copy {source}: {error.strerror}") from None


def copy_tree(source, target):
    """Regular files only: a link in a folder from elsewhere is an error."""
    for path in source.rglob("*"):
        if path.is_symlink():
            raise Problem(f"--from {source}: {path} is a link; give a folder of plain files")
        if not path.is_dir():
            copy(path, target / path.relative_to(source))


def discard(*paths):
    """Removes files or folders that are ours."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def shown(path):
    """A path as short as it can be typed."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
