"""The terms of a data set: shown, asked about once, remembered."""

import hashlib
import json
import sys

from .download import replace
from .problems import Problem
from .progress import put


def agree(entry, work, accepted):
    """Returns once the terms are accepted; raises Problem where they are not, or where nobody can be asked."""
    book = work / "accepted.json"
    # Other words are other terms, and are asked about again.
    words = hashlib.sha256(entry.terms.encode()).hexdigest()
    try:
        before = dict(json.loads(book.read_text()))
    except (OSError, ValueError, TypeError):
        before = {}
    if before.get(entry.name) != words:
        put(f"{entry.title}\n  terms: {entry.terms}\n  page:  {entry.page}\n")
        if not accepted:
            ask(entry)
        work.mkdir(parents=True, exist_ok=True)
        replace(book, json.dumps({**before, entry.name: words}, indent=1) + "\n")


def ask(entry):
    if not sys.stdin.isatty():
        raise Problem("it has terms (above): if you accept them, run the same command with --accept-terms")
    put("Do you accept these terms? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Problem(f"the terms of {entry.name} were not accepted: nothing was fetched")
