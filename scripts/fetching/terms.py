"""The terms of a data set: shown, asked about once, remembered."""

import hashlib
import json
import os
import sys

from .problems import Problem


def agree(entry, work, accepted):
    """Returns once the terms are accepted; raises Problem where they are not, or where nobody can be asked."""
    book = work / "accepted.json"
    # Other words are other terms, and are asked about again.
    words = hashlib.sha256(entry.terms.encode()).hexdigest()
    try:
        before = json.loads(book.read_text())
    except (OSError, ValueError):
        before = {}
    if not isinstance(before, dict) or before.get(entry.name) != words:
        sys.stderr.write(f"{entry.title}\n  terms: {entry.terms}\n  page:  {entry.page}\n")
        if not accepted:
            ask(entry)
        before = dict(before) if isinstance(before, dict) else {}
        before[entry.name] = words
        work.mkdir(parents=True, exist_ok=True)
        fresh = book.with_name(f"accepted.json.{os.getpid()}")
        fresh.write_text(json.dumps(before, indent=1) + "\n")
        os.replace(fresh, book)


def ask(entry):
    if not sys.stdin.isatty():
        raise Problem(f"{entry.name} has terms (above): if you accept them, run the same command with --accept-terms")
    sys.stderr.write("Do you accept these terms? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Problem(f"the terms of {entry.name} were not accepted: nothing was fetched")
