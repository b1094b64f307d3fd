"""The errors of a fetch. Their text is what the user reads: one line that names the file and what to do."""


class Problem(Exception):
    """Ends the work on one data set."""


class NotHad(Problem):
    """No mirror gave the file."""


class MirrorFailed(Exception):
    """This mirror will not give the file; the next one may."""


class Broken(Exception):
    """The transfer broke; the same mirror may go on where it stopped."""


class Unreachable(Broken):
    """No connection came about."""


class Later(Broken):
    """The host asks for patience (429, 503); `seconds` is None where it does not say how much."""

    def __init__(self, text, seconds=None):
        super().__init__(text)
        self.seconds = seconds
