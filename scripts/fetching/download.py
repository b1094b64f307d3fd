"""One file onto the disk: mirrors in order, each resumed where it broke, the result verified before it counts.

Beside `FILE.part` lies `FILE.part.json`: which url it came from, the validators the host gave, and its full length.
A part is only ever continued where a checksum will catch a mixture, or where If-Range holds the host to the same
bytes. A whole, verified file takes its name by a rename.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path

from . import drive
from .problems import Broken, Later, MirrorFailed, NotHad, Problem, Unreachable
from .progress import Bar, say
from .words import address, printable, size

TRIES = 5  # breaks in a row without `GAIN` bytes between them, before a mirror is given up
GAIN = 1 << 20
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
                self.mirror(url)
                return
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
                wrong = verify(self.part, self.file)
                if wrong is None:
                    sync(self.part)
                    os.replace(self.part, self.target)
                    self.notes.unlink(missing_ok=True)
                    return
                mixed = self.mixed
                self.discard()
                if not mixed or rewound:
                    raise MirrorFailed(wrong)
                rewound = True
                say(f"{self.file.name}: {wrong}; once more from the start")
                continue
            except Broken as error:
                failures = 1 if self.have() - before >= GAIN else failures + 1
                tries = 2 if isinstance(error, Unreachable) else TRIES
                if failures >= tries:
                    raise MirrorFailed(f"{error} ({failures} times)") from None
                wait = min(2 ** (failures - 1), 30)
                if isinstance(error, Later) and error.seconds is not None:
                    wait = error.seconds
                if wait > LONGEST_WAIT:
                    raise MirrorFailed(f"{error}, asks to wait {wait:.0f} s: run the same command after that") from None
                say(f"{self.file.name}: {error}; trying again in {wait:.0f} s")
                self.sleep(wait)

    def have(self):
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self):
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        self.mixed = False

    def attempt(self, url):
        """One transfer. Returns when the part is as long as the host says the file is."""
        have, headers, notes = self.have(), {}, self.read_notes()
        if have:
            whole = self.file.bytes or (notes.get("total") if notes.get("url") == url else None)
            if whole == have:
                return
            headers = self.range(url, have, notes, whole)
            if not headers:
                self.discard()
                have = 0
        reply = self.web.open(url, headers)
        try:
            reply = self.through_drive(reply, url, headers)
            self.receive(reply, url, have, notes)
        finally:
            reply.close()
            self.web.watch.release()

    def range(self, url, have, notes, whole):
        """The headers that continue a part, or nothing where it must start over."""
        if whole is not None and have > whole:
            return {}
        if notes.get("url") == url and notes.get("validator"):
            return {"Range": f"bytes={have}-", "If-Range": notes["validator"]}
        return {"Range": f"bytes={have}-"} if self.file.checksummed else {}

    def through_drive(self, reply, url, headers):
        """Past a confirm page, where the host sent one in place of the file."""
        for _ in range(2):
            kind = (reply.headers.get("Content-Type") or "").lower()
            if reply.status not in (200, 206) or "text/html" not in kind or self.file.name.endswith((".html", ".htm")):
                return reply
            page = b""
            for chunk in self.web.body(reply):
                page += chunk
                if len(page) > drive.LONGEST_PAGE:
                    break
            onward = drive.confirmed(page.decode("utf-8", "replace"), reply.url)
            reply.close()
            reply = self.web.open(onward, headers)
        raise MirrorFailed("it sends one confirm page after another: download it in a browser and give it with --from")

    def receive(self, reply, url, have, notes):
        status = reply.status
        if status == 416:
            total = re.fullmatch(r"bytes \*/([0-9]{1,18})", reply.headers.get("Content-Range") or "")
            if total and int(total[1]) == have and have > 0:
                return
            self.discard()
            raise Broken("it has not the range asked for; starting over")
        self.refuse(reply)
        length = number(reply.headers.get("Content-Length"))
        if status == 206:
            span = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", reply.headers.get("Content-Range") or "")
            if not have or not span or int(span[1]) != have:
                self.discard()
                raise Broken("it sent another range than asked for; starting over")
            total = int(span[3]) if span[3] != "*" else None
            # A host may send a part of another file than before, whatever If-Range asked.
            if notes.get("url") == url and changed(notes, reply, total):
                self.discard()
                raise Broken("the file there is another one than before; starting over")
            self.mixed = True
        else:
            have, total = 0, length
            self.mixed = False
        self.fits(total)
        self.write_notes(url, reply, total)
        self.write(reply, have, total)

    def refuse(self, reply):
        status, phrase = reply.status, printable(getattr(reply, "reason", "") or "", 60)
        if status in (429, 503):
            raise Later(f"the host is busy ({status})", retry_after(reply.headers.get("Retry-After")))
        if status in (408, 425) or status >= 500:
            raise Broken(f"it answered {status} {phrase}".rstrip())
        if status in (401, 403) and self.web.auth:
            names = [self.web.auth[key] for key in ("user", "password", "token") if key in self.web.auth]
            given = all(os.environ.get(name) for name in names)
            cure = "the account was refused: check" if given else "it wants an account: set"
            raise MirrorFailed(f"it answered {status}; {cure} {' and '.join(names)} in the environment")
        if status not in (200, 206):
            raise MirrorFailed(f"it answered {status} {phrase}".rstrip())
        coding = (reply.headers.get("Content-Encoding") or "identity").lower()
        if coding != "identity":
            raise MirrorFailed(f"it sends the file {printable(coding, 20)}-coded")

    def fits(self, total):
        """Refuses a length that cannot be right before a byte of it is written."""
        if total is None:
            return
        if self.file.bytes is not None and total != self.file.bytes:
            raise MirrorFailed(f"its file has {total:,} bytes, the list says {self.file.bytes:,}")
        if total > self.file.at_most:
            raise MirrorFailed(
                f"its file has {total:,} bytes, more than the {self.file.at_most:,} that the list allows"
            )

    def write(self, reply, have, total):
        label = self.file.name
        if (total or self.file.at_most) >= QUIET:
            what = f"from {size(have)} on" if have else size(total if total is not None else self.file.bytes)
            say(f"{label}: {what}, {address(reply.url)}")
        bar = Bar(label, total, have)
        try:
            with open(self.part, "ab" if have else "wb") as out:
                for chunk in self.web.body(reply):
                    have += len(chunk)
                    if have > (total if total is not None else self.file.at_most):
                        out.close()
                        self.discard()
                        raise MirrorFailed(f"it sends more than the {total or self.file.at_most:,} bytes it should")
                    out.write(chunk)
                    bar.add(len(chunk))
        except OSError as error:
            raise Problem(
                f"cannot write {self.part}: {error.strerror}; free some room and run the same command"
            ) from None
        finally:
            bar.close()
        if total is not None and have < total:
            raise Broken(f"the connection ended at {have:,} of {total:,} bytes")
        if have == 0 and self.file.bytes != 0:
            self.discard()
            raise Broken("it sent nothing")

    def read_notes(self):
        try:
            notes = json.loads(self.notes.read_text())
            return notes if isinstance(notes, dict) else {}
        except (OSError, ValueError):
            return {}

    def write_notes(self, url, reply, total):
        text = json.dumps({"url": url, "validator": validator(reply), "total": total})
        fresh = self.notes.with_name(self.notes.name + ".new")
        fresh.write_text(text)
        os.replace(fresh, self.notes)


def validator(reply):
    """What names the reply's file: only a strong ETag names bytes; a date stands in for it."""
    tag, date = reply.headers.get("ETag") or "", reply.headers.get("Last-Modified")
    return tag if tag and not tag.startswith("W/") else date


def changed(notes, reply, total):
    """Whether a continued file says of itself what it did not say before: another length, tag or date."""
    now = validator(reply)
    other = now is not None and notes.get("validator") is not None and now != notes["validator"]
    return other or (total is not None and notes.get("total") is not None and total != notes["total"])


def number(text):
    """A header's number, or None: no signs, no other alphabets' digits, none that is absurdly long."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def retry_after(value):
    """Seconds to wait, of Retry-After's number or date; None where it says neither."""
    if not value:
        return None
    seconds = number(value.strip())
    if seconds is not None:
        return seconds
    try:
        when = email.utils.parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def verify(path, file):
    """What is wrong with a whole file, or None."""
    found = Path(path).stat().st_size
    if file.bytes is not None and found != file.bytes:
        return f"it has {found:,} bytes, the list says {file.bytes:,}"
    if found > file.at_most:
        return f"it has {found:,} bytes, more than the {file.at_most:,} that the list allows"
    wanted = {"md5": file.md5, "sha256": file.sha256 or file.starts, "git blob": file.git_blob}
    for kind, digest in checksums(path, [kind for kind in wanted if wanted[kind]]).items():
        if not digest.startswith(wanted[kind]):
            more = "" if len(digest) == len(wanted[kind]) else "..."
            return f"its {kind} is {digest}, the list says {wanted[kind]}{more}"
    return None


def checksums(path, kinds):
    """kind -> hex digest, in one reading."""
    digests = {kind: hashlib.new("sha1" if kind == "git blob" else kind, usedforsecurity=False) for kind in kinds}
    if "git blob" in digests:
        digests["git blob"].update(b"blob %d\0" % Path(path).stat().st_size)
    if digests:
        with open(path, "rb") as source:
            for chunk in iter(lambda: source.read(1 << 20), b""):
                for digest in digests.values():
                    digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def sync(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
