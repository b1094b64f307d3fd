"""The errors of a fetch. Their text is what the user reads: one line that names the file and what to do."""


class Problem(Exception):
    """Ends the work on one data set."""


class NotHad(Problem):
    """No mirror gave the file."""


class MirrorFailed(Exception):
    """This mirror will not give the file; the next one may."""


class Broken(Exception):
    """The transfer broke; the same mirror may go on where it stopped."""

    tries = 5  # breaks in a row with no progress between them, before a mirror is given up
    wait = None  # seconds, where the host asks for so many


class Unreachable(Broken):
    """No connection came about."""

    tries = 2
