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
    p.add_argument("names", nargs="*", metavar="NAME", help="data sets or weights, as --list names them")
    p.add_argument("--list", action="store_true", help="what there is, and what is here already")
    p.add_argument("--check", action="store_true", help="compare what is here with the list; fetch nothing")
    p.add_argument(
        "--from",
        dest="given",
        action="append",
        nargs="+",
        default=[],
        metavar="FILE",
        help="archives that you have already (or a folder of them, or the unpacked set); they are verified and left where they are",
    )
    p.add_argument("--accept-terms", action="store_true", help="accept the terms shown, for scripts")
    p.add_argument("--keep", action="store_true", help="keep downloaded archives in data/.fetch after unpacking")
    p.add_argument(
        "--data",
        type=Path,
        default=ROOT / "data",
        metavar="DIR",
        help="where data sets go (default: the package's data/)",
    )
    p.add_argument("--catalog", type=Path, default=ROOT / "data" / "datasets.json", metavar="FILE", help="another list")
    p.add_argument(
        "--stall",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="give up on a transfer that stands still for so long (default: 60)",
    )
    return p


def main(arguments=None):
    """The exit code: 0, 1 where something could not be had, 2 for a wrong command line, 130 after Ctrl-C."""
    p = parser()
    args = p.parse_args(arguments)
    given = [path for group in args.given for path in group]
    try:
        entries = catalog.load(args.catalog)
        if args.list:
            listing(entries, args.data)
            return 0
        if not args.names:
            p.print_usage(sys.stderr)
            say("give a NAME, or --list")
            return 2
        unknown = [name for name in args.names if name not in entries]
        if unknown:
            say(f"no data set {unknown[0]!r}{near(unknown[0], entries)}; scripts/fetch --list names them all")
            return 2
        if given and len(args.names) != 1:
            say("--from goes with one NAME")
            return 2
        if not 0 < args.stall <= 86_400:
            say("--stall: say seconds above 0, up to a day")
            return 2
        chosen = [entries[name] for name in dict.fromkeys(args.names)]
        if args.check:
            return checking(chosen, args.data)
        return fetching(chosen, Options(args.data, given, args.accept_terms, args.keep, args.stall))
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
        say("stopped; the same command goes on where it was")
        return 130


def fetching(entries, options):
    """Every set, also after one failed."""
    failed = 0
    for entry in entries:
        try:
            get(entry, options)
        except Problem as error:
            say(str(error) if str(error).startswith(f"{entry.name} ") else f"{entry.name}: {error}")
            failed = 1
        except OSError as error:
            say(f"{entry.name}: {reason(error)}; run the same command when that is mended")
            failed = 1
    return failed


def reason(error):
    """An OSError's words, with the file where it names one."""
    return (error.strerror or str(error)) + (f" ({error.filename})" if error.filename else "")


def checking(entries, root):
    worst = 0
    for entry in entries:
        place = root / entry.path
        if not os.path.lexists(place):
            print(f"{entry.name}: not here; scripts/fetch {entry.name} gets it")
            worst = 1
            continue
        found = check.differences(entry, place)
        for line in found:
            print(f"{entry.name}: {line}")
        if found:
            worst = 1
        else:
            print(f"{entry.name}: complete in {shown(place)}")
    return worst


def listing(entries, root):
    width = max(map(len, entries), default=0)
    for single, heading in ((False, "Data sets"), (True, "Weights")):
        print(f"{heading}:")
        for entry in entries.values():
            if entry.single != single:
                continue
            state = "here" if os.path.lexists(root / entry.path) else "by hand" if entry.by_hand else entry.size()
            print(f"  {entry.name:{width}}  {state:13}  {entry.title} ({', '.join(entry.papers)})")
            secrets = (
                [entry.auth[key] for key in ("user", "password", "token") if key in entry.auth] if entry.auth else []
            )
            if secrets:
                print(f"  {'':{width}}  {'':13}  account: {', '.join(secrets)}")
    print("by hand: a form or a browser is needed; scripts/fetch NAME prints the steps.")


def near(name, entries):
    close = difflib.get_close_matches(name, list(entries), 1)
    return f" (did you mean {close[0]}?)" if close else ""
