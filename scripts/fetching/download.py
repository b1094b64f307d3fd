"""One file onto the disk: mirrors in order, each resumed where it broke, the result verified before it counts.

Beside `FILE.part` lies `FILE.part.json`: which url it came from, the validator the host gave, and its full length.
A part is only ever continued where a checksum will catch a mixture, or where If-Range holds the host to the same
bytes. A whole, verified file takes its name by a rename.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import json
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path

from . import drive
from .problems import Broken, MirrorFailed, NotHad, Problem
from .progress import Bar, address, printable, say, size

TRIES = Broken.tries
GAIN = 1 << 20  # bytes that count as progress between two breaks
LONGEST_WAIT = 300  # seconds; a host that asks for more is left
# Files below this are not announced one by one.
QUIET = 5 * 10**6


class Download:
    """One file of the list on its way to `target`."""

    def __init__(self, file, target, web, sleep=time.sleep):
        self.file, self.target, self.web, self.sleep = file, Path(target), web, sleep
        self.part = self.target.with_name(self.target.name + ".part")
        self.notes = self.target.with_name(self.target.name + ".part.json")
        self.mixed = False  # whether the part holds bytes of more than one transfer

    def run(self):
        """Downloads. Raises Problem with what every mirror said."""
        if self.target.exists():
            if verify(self.target, self.file) is None:
                return
            self.target.unlink()
        self.target.parent.mkdir(parents=True, exist_ok=True)
        said = []
        for url in self.file.urls:
            try:
                return self.mirror(url)
            except MirrorFailed as error:
                said.append(f"{address(url)}: {error}")
                if url != self.file.urls[-1]:
                    say(f"{self.file.name}: {said[-1]}; trying the next mirror")
        raise NotHad(f"{self.file.name} could not be had. " + "; ".join(said))

    def mirror(self, url):
        """This mirror until the file is whole and right, or MirrorFailed."""
        failures, rewound = 0, False
        while True:
            before = self.have()
            try:
                self.attempt(url)
            except Broken as error:
                failures = 1 if self.have() - before >= GAIN else failures + 1
                if failures >= error.tries:
                    raise MirrorFailed(f"{error} ({failures} times)") from None
                wait = min(2 ** (failures - 1), 30) if error.wait is None else error.wait
                if wait > LONGEST_WAIT:
                    raise MirrorFailed(f"{error}, asks to wait {wait:.0f} s: run the same command after that") from None
                say(f"{self.file.name}: {error}; trying again in {wait:.0f} s")
                self.sleep(wait)
                continue
            wrong = verify(self.part, self.file)
            if wrong is None:
                with open(self.part, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(self.part, self.target)
                self.notes.unlink(missing_ok=True)
                return
            again = self.mixed and not rewound
            self.discard()
            if not again:
                raise MirrorFailed(wrong)
            rewound = True
            say(f"{self.file.name}: {wrong}; once more from the start")

    def have(self):
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self):
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        self.mixed = False

    def restart(self, why):
        self.discard()
        raise Broken(f"{why}; starting over")

    def attempt(self, url):
        """One transfer. Returns when the part is as long as the host says the file is."""
        have, headers, notes = self.have(), {}, self.read_notes(url)
        if have:
            whole = self.file.bytes or notes.get("total")
            if whole == have:
                return
            if whole is None or have < whole:
                if notes.get("validator"):
                    headers = {"Range": f"bytes={have}-", "If-Range": notes["validator"]}
                elif self.file.checksummed:
                    headers = {"Range": f"bytes={have}-"}
            if not headers:
                self.discard()
                have = 0
        onward, cookies = url, []
        for _ in range(3):
            with self.web.open(onward, headers, cookies) as reply:
                page = reply.status in (200, 206) and "text/html" in reply.headers.get("content-type", "").lower()
                if not page or self.file.name.endswith((".html", ".htm")):
                    return self.receive(reply, url, have, notes)
                # A confirm page, perhaps, in place of the file.
                onward, cookies = drive.confirmed(reply)
        raise MirrorFailed(f"it sends one confirm page after another: {drive.BROWSER}")

    def receive(self, reply, url, have, notes):
        """Writes what comes, where the headers say that it is what was asked for."""
        span = reply.headers.get("content-range", "")
        span = re.fullmatch(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)", span)
        start, total = (number(span[1]), number(span[2])) if span else (None, None)
        if reply.status == 416:
            if have and total == have:
                return
            self.restart("it has not the range asked for")
        self.refuse(reply)
        now = {"url": url, "validator": validator(reply), "total": total}
        if reply.status == 206:
            if not have or start != have:
                self.restart("it sent another range than asked for")
            # A host may send a part of another file than before, whatever If-Range asked.
            if any(None not in (now[key], notes.get(key)) and now[key] != notes[key] for key in ("validator", "total")):
                self.restart("the file there is another one than before")
        else:
            have, total = 0, number(reply.headers.get("content-length"))
            now["total"] = total
        self.mixed = have > 0
        if total is not None:
            # A length that cannot be right is refused before a byte is written.
            wrong = misfit(total, self.file)
            if wrong:
                raise MirrorFailed(f"its file {wrong}")
        replace(self.notes, json.dumps(now))
        self.write(reply, have, total)

    def refuse(self, reply):
        """Raises what an answer without the file means."""
        status = reply.status
        said = f"it answered {status} {http.client.responses.get(status, '')}".rstrip()
        if status in (429, 503):
            later = Broken(f"the host is busy ({status})")
            later.wait = retry_after(reply.headers.get("retry-after"))
            raise later
        if status in (408, 425) or status >= 500:
            raise Broken(said)
        if status in (401, 403) and self.web.auth:
            given = all(map(os.environ.get, self.web.names))
            cure = "the account was refused: check" if given else "it wants an account: set"
            raise MirrorFailed(f"it answered {status}; {cure} {' and '.join(self.web.names)} in the environment")
        if status not in (200, 206):
            raise MirrorFailed(said)
        coding = reply.headers.get("content-encoding", "identity").lower()
        if coding != "identity":
            raise MirrorFailed(f"it sends the file {printable(coding, 20)}-coded")

    def write(self, reply, have, total):
        most = self.file.at_most if total is None else total
        if (total or most) >= QUIET:
            what = f"from {size(have)} on" if have else size(self.file.bytes if total is None else total)
            say(f"{self.file.name}: {what}, {address(reply.url)}")
        bar = Bar(self.file.name, total, have)
        try:
            with open(self.part, "ab" if have else "wb") as out:
                for chunk in reply.body():
                    have += len(chunk)
                    if have > most:
                        self.discard()
                        raise MirrorFailed(f"it sends more than the {most:,} bytes it should")
                    out.write(chunk)
                    bar.add(len(chunk))
                    if have == total:
                        break
        except OSError as error:
            problem = f"cannot write {self.part}: {error.strerror}; free some room and run the same command"
            raise Problem(problem) from None
        finally:
            bar.close()
        if total is not None and have < total:
            raise Broken(f"the connection ended at {have:,} of {total:,} bytes")
        if have == 0 and self.file.bytes != 0:
            self.discard()
            raise Broken("it sent nothing")

    def read_notes(self, url):
        """What was noted of the part, where it came from this url."""
        try:
            notes = json.loads(self.notes.read_text())
            return notes if notes["url"] == url else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}


def replace(path, text):
    """Writes a small file so that no reader finds half of it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text)
    os.replace(fresh, path)


def validator(reply):
    """What names the reply's file: only a strong ETag names bytes; a date stands in for it."""
    tag, date = reply.headers.get("etag", ""), reply.headers.get("last-modified")
    return tag if tag and not tag.startswith("W/") else date


def number(text):
    """A header's number, or None: no signs, no other alphabets' digits, none that is absurdly long."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def retry_after(value):
    """Seconds to wait, of Retry-After's number or date; None where it says neither."""
    seconds = number((value or "").strip())
    if seconds is not None:
        return seconds
    try:
        when = email.utils.parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def misfit(count, file):
    """What is wrong with a file's length, or None."""
    if file.bytes not in (None, count):
        return f"has {count:,} bytes, the list says {file.bytes:,}"
    return f"has {count:,} bytes, more than the {file.at_most:,} that the list allows" if count > file.at_most else None


def verify(path, file):
    """What is wrong with a whole file, or None."""
    found = Path(path).stat().st_size
    wrong = misfit(found, file)
    if wrong:
        return f"it {wrong}"
    wanted = {"md5": file.md5, "sha256": file.sha256 or file.sha256_starts_with, "git blob": file.git_blob}
    wanted = {kind: digits for kind, digits in wanted.items() if digits}
    digests = {kind: hashlib.new("sha1" if kind == "git blob" else kind, usedforsecurity=False) for kind in wanted}
    if "git blob" in digests:
        digests["git blob"].update(b"blob %d\0" % found)
    if digests:
        with open(path, "rb") as source:
            for chunk in iter(lambda: source.read(1 << 20), b""):
                for digest in digests.values():
                    digest.update(chunk)
    for kind, digits in wanted.items():
        digest = digests[kind].hexdigest()
        if not digest.startswith(digits):
            more = "" if len(digest) == len(digits) else "..."
            return f"its {kind} is {digest}, the list says {digits}{more}"
    return None
