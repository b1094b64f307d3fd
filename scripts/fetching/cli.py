"""The command line of scripts/fetch."""

import argparse
import difflib
import os
import sys
from pathlib import Path

from . import catalog, check
from .getting import Options, get, shown
from .problems import Problem
from .progress import say

ROOT = Path(__file__).resolve().parents[2]

ABOUT = """\
Gets data sets and weights into data/: downloads (resumed where they broke, other mirrors where one fails), verifies
what has a published checksum, unpacks, converts, counts. data/datasets.json is the list, data/README.md explains it."""

MORE = """\
Credentials come only from the environment, by the names that --list shows (and are never printed); proxies from
http_proxy, https_proxy and no_proxy. Work in progress lies in data/.fetch; the same command goes on with it."""


def parser():
    p = argparse.ArgumentParser(
        prog="scripts/fetch", description=ABOUT, epilog=MORE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("names", nargs="*", metavar="NAME", help="data sets or weights, as --list names them")
    add("--list", action="store_true", help="what there is, and what is here already")
    add("--check", action="store_true", help="compare what is here with the list; fetch nothing")
    had = "archives that you have already (or a folder of them, or the unpacked set): verified, and left where they are"
    add("--from", dest="given", action="append", nargs="+", default=[], metavar="FILE", help=had)
    add("--accept-terms", action="store_true", help="accept the terms shown, for scripts")
    add("--keep", action="store_true", help="keep downloaded archives in data/.fetch after unpacking")
    where = "where data sets go (default: the package's data/)"
    add("--data", type=Path, default=ROOT / "data", metavar="DIR", help=where)
    add("--catalog", type=Path, default=ROOT / "data" / "datasets.json", metavar="FILE", help="another list")
    stall = "give up on a transfer that stands still for so long (default: 60)"
    add("--stall", type=float, default=60.0, metavar="SECONDS", help=stall)
    return p


def main(arguments=None):
    """The exit code: 0, 1 where something could not be had, 2 for a wrong command line, 130 after Ctrl-C."""
    p = parser()
    return ended(lambda: run(p, p.parse_args(arguments)), "; the same command goes on where it was")


def ended(work, resumes=""):
    """The exit code of `work`, whose errors are lines for people."""
    try:
        return work()
    except Problem as error:
        say(str(error))
        return 1
    except BrokenPipeError:
        # Whoever read has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        say(reason(error))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        say(f"stopped{resumes}")
        return 130


def run(p, args):
    given = [path for group in args.given for path in group]
    entries = catalog.load(args.catalog)
    if args.list:
        listing(entries, args.data)
        return 0
    unknown = [name for name in args.names if name not in entries]
    wrong = None
    if not args.names:
        p.print_usage(sys.stderr)
        wrong = "give a NAME, or --list"
    elif unknown:
        close = difflib.get_close_matches(unknown[0], list(entries), 1)
        near = f" (did you mean {close[0]}?)" if close else ""
        wrong = f"no data set {unknown[0]!r}{near}; scripts/fetch --list names them all"
    elif given and len(args.names) != 1:
        wrong = "--from goes with one NAME"
    elif not 0 < args.stall <= 86_400:
        wrong = "--stall: say seconds above 0, up to a day"
    if wrong:
        say(wrong)
        return 2
    chosen = [entries[name] for name in dict.fromkeys(args.names)]
    if args.check:
        return checking(chosen, args.data)
    return fetching(chosen, Options(args.data, given, args.accept_terms, args.keep, args.stall))


def fetching(entries, options):
    """Every set, also after one failed."""
    failed = 0
    for entry in entries:
        try:
            get(entry, options)
            continue
        except Problem as error:
            what = str(error)
        except OSError as error:
            what = f"{reason(error)}; run the same command when that is mended"
        say(f"{entry.name}: {what}")
        failed = 1
    return failed


def reason(error):
    """An OSError's words, with the file where it names one."""
    return (error.strerror or str(error)) + (f" ({error.filename})" if error.filename else "")


def checking(entries, root):
    worst = 0
    for entry in entries:
        place = root / entry.path
        if os.path.lexists(place):
            found = check.differences(entry, place)
        else:
            found = [f"not here; scripts/fetch {entry.name} gets it"]
        worst = max(worst, bool(found))
        for line in found or [f"complete in {shown(place)}"]:
            print(f"{entry.name}: {line}")
    return int(worst)


def listing(entries, root):
    width = max(map(len, entries), default=0)
    for single, heading in ((False, "Data sets"), (True, "Weights")):
        print(f"{heading}:")
        for entry in (entry for entry in entries.values() if entry.single == single):
            state = "here" if os.path.lexists(root / entry.path) else "by hand" if entry.by_hand else entry.size()
            print(f"  {entry.name:{width}}  {state:13}  {entry.title} ({', '.join(entry.papers)})")
            if entry.auth:
                print(f"  {'':{width}}  {'':13}  account: {', '.join(catalog.account(entry.auth))}")
    print("by hand: a form or a browser is needed; scripts/fetch NAME prints the steps.")
