"""One request, made by curl: redirects, proxies, TLS, cookies and accounts are its trade. Its answer comes through a
pipe, headers first, so that nothing is kept before they were looked at and nothing is waited for too long."""

import contextlib
import json
import math
import os
import re
import select
import subprocess
import time
from subprocess import DEVNULL, PIPE
from urllib.parse import urljoin, urlsplit

from .catalog import account
from .problems import Broken, MirrorFailed, Problem, Unreachable
from .progress import address

# A transfer slower than this (bytes a second, over the stall time) counts as stalled.
SLOWEST = 256
# None of the user's own settings (--disable). Lengths are compared by who writes the file: some hosts' are no numbers.
CURL = """curl --disable --silent --no-buffer --globoff --http1.1 --location --max-redirs 10 --proto =https,http
    --cookie /dev/null --suppress-connect-headers --ignore-content-length --config - --dump-header""".split()
# What curl's exit codes mean, where the same request would not just be tried again. Its own messages may hold passwords.
MEANS = {
    2: (MirrorFailed, "this curl is too old: 7.54 is needed, or later"),
    3: (MirrorFailed, "it leads to no proper address"),
    5: (MirrorFailed, "no such proxy: check the proxy variables"),
    6: (MirrorFailed, "no such host, or no network: check the connection and the proxy variables"),
    7: (Unreachable, "nothing answers there (connection refused, or no way to it)"),
    28: (Unreachable, "no answer for {stall} s"),
    35: (Unreachable, "no secure connection came about"),
    47: (MirrorFailed, "it redirects more than 10 times"),
    60: (MirrorFailed, "its certificate does not stand: is a proxy in between, or the clock wrong?"),
}


class Web:
    """Opens urls. `stall` seconds without enough bytes end a transfer; a connection and its headers, redirects and all,
    get twice that. `auth` names the host that gets an account, and the environment variables that hold it."""

    def __init__(self, stall=60.0, auth=None):
        self.stall, self.auth = stall, auth or {}
        self.names = account(self.auth)

    def open(self, url, headers, cookies=()):
        """The reply, whatever its status. Raises Broken where no whole reply came, MirrorFailed where none will."""
        headers = {"Accept-Encoding": "identity", "Connection": "close", **headers}
        options = [
            ("url", url),
            *(("header", f"{name}: {value}") for name, value in headers.items()),
            *self.account(url),
            ("user-agent", "rankle-fetch/1 (+data/README.md)"),
            *(("cookie", cookie) for cookie in cookies),
            ("proto-redir", "=https" if urlsplit(url).scheme == "https" else "=http,https"),
            ("connect-timeout", math.ceil(self.stall)),
            # Reply watches the time more closely; this ends a curl whose Python was killed.
            ("speed-time", math.ceil(2 * self.stall)),
            ("speed-limit", SLOWEST),
        ]
        return Reply(url, options, self.stall)

    def account(self, url):
        """curl's option for the account of this url, of the environment."""
        if self.auth.get("host") != urlsplit(url).hostname or not all(map(os.environ.get, self.names)):
            return []
        return [("oauth2-bearer" if "token" in self.auth else "user", ":".join(map(os.environ.get, self.names)))]


class Reply:
    """The last answer after all redirects: `status`, `headers` by names in small letters, `cookies` that it sets,
    `url`; `body` reads on."""

    def __init__(self, url, options, stall):
        self.url, self.stall, self.came, self.until = url, stall, b"", time.monotonic() + 2 * stall
        # Headers apart from the body: some may follow it.
        self.heads, heads = os.pipe()
        command = [*CURL, f"/dev/fd/{heads}"]
        try:
            self.curl = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, pass_fds=[heads])
        except FileNotFoundError:
            os.close(self.heads)
            cure = "(Debian: apt-get install curl; macOS has it), then run the same command"
            raise Problem(f"downloads are made by curl, which is not installed: install it {cure}") from None
        finally:
            os.close(heads)
        try:
            with contextlib.suppress(BrokenPipeError), self.curl.stdin as stdin:
                # Others on this machine may read the command line, not this. curl's quotes are JSON's.
                for name, value in options:
                    stdin.write(f"{name} = {json.dumps(value, ensure_ascii=False)}\n".encode("utf-8", "replace"))
            self.head()
            while self.status < 200 or self.onward():
                self.head()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends curl, also in the middle."""
        self.curl.kill()
        self.curl.wait()
        self.curl.stdout.close()
        os.close(self.heads)

    def head(self):
        """Reads one answer's status and headers."""
        while not (end := re.search(rb"\r?\n\r?\n", self.came)):
            chunk = self.read(self.heads, self.until - time.monotonic())
            if chunk is None:
                raise Broken(f"no whole answer within {2 * self.stall:g} s")
            if not chunk:
                raise self.failed("no proper answer, of it or of a proxy")
            self.came += chunk
        text = self.came[: end.start()].decode("latin-1")
        first, *lines = re.split("[\r\n]+", text)
        self.cookies = re.findall(r"(?im)^set-cookie:[ \t]*([^=;\r\n]+=[^;\r\n]*)", text)
        self.came = self.came[end.end() :]
        status = re.match(r"HTTP/[\d.]+ (\d{3})", first)
        if not status:
            raise Broken("no proper answer")
        self.status = int(status[1])
        parts = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in parts}

    def onward(self):
        """Whether curl follows a redirect; raises MirrorFailed where it leads out of the web or out of https."""
        if not (300 <= self.status < 400 and self.headers.get("location")):
            return False
        try:
            new = urljoin(self.url, self.headers["location"])
            old, scheme, shown = urlsplit(self.url).scheme, urlsplit(new).scheme, address(new)
        except ValueError:
            raise MirrorFailed("it redirects to no proper address") from None
        if scheme not in ("http", "https"):
            raise MirrorFailed(f"it redirects to {scheme}: refused")
        if old == "https" and scheme == "http":
            raise MirrorFailed(f"it redirects from https to plain http ({shown}): refused")
        self.url = new
        return True

    @staticmethod
    def read(pipe, seconds):
        """What came next; nothing at the end, None where the time was up."""
        return os.read(pipe, 1 << 16) if select.select([pipe], [], [], max(0, seconds))[0] else None

    def body(self):
        """The reply's bytes as they come. Raises Broken where they stop coming."""
        since, got, chunk = time.monotonic(), 0, b""
        while True:
            if chunk:
                yield chunk
            got, now = got + len(chunk), time.monotonic()
            if now - since >= self.stall:
                if got < SLOWEST * (now - since):
                    raise Broken(f"only {got} bytes came in {now - since:.0f} s")
                since, got = now, 0
            chunk = self.read(self.curl.stdout.fileno(), self.stall)
            if chunk is None:
                raise Broken(f"nothing came for {self.stall:g} s")
            if not chunk and self.curl.wait():
                raise self.failed("the connection broke")
            if not chunk:
                return

    def failed(self, otherwise):
        """What it means that curl ended."""
        code = self.curl.wait()
        kind, text = MEANS.get(code, (Broken, f"{otherwise} (curl's error {code})"))
        return kind(text.format(stall=math.ceil(self.stall)))
