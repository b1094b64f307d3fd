"""One HTTP request: proxies as the environment says, redirects watched, credentials only to the host they are for."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from .problems import Broken, MirrorFailed, Unreachable
from .words import address

AGENT = "rankle-fetch/1 (+data/README.md)"
# A transfer slower than this (bytes a second, over the stall time) counts as stalled.
SLOWEST = 256


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not out of https and not to anything but the web."""

    max_redirections = 10
    # Python before 3.11 does not know 308.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it redirects to {new.scheme or 'nowhere'}: refused")
        if old.scheme == "https" and new.scheme == "http":
            raise urllib.error.URLError(f"it redirects from https to plain http ({address(newurl)}): refused")
        request = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)
        secret = req.unredirected_hdrs.get("Authorization")
        if request is not None and secret and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", secret)
        return request


class Web:
    """Opens urls. `stall` seconds without enough bytes end a transfer."""

    def __init__(self, stall=60.0, auth=None):
        self.stall = stall
        self.auth = auth or {}
        # ProxyHandler reads http_proxy, https_proxy and no_proxy; cookies are kept for the length of one run.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(), Redirects(), urllib.request.HTTPCookieProcessor()
        )

    def open(self, url, headers):
        """The reply, whatever its status. Raises Broken where no whole reply came, MirrorFailed where none will."""
        request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **headers})
        secret = self.credentials(url)
        if secret:
            request.add_unredirected_header("Authorization", secret)
        try:
            return self.opener.open(request, timeout=self.stall)
        except urllib.error.HTTPError as reply:
            return reply
        except urllib.error.URLError as error:
            raise unanswered(error.reason, self.stall) from None
        except socket.timeout:
            raise Broken(f"no answer for {self.stall:g} s") from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise Broken(f"no proper answer ({type(error).__name__})") from None

    def credentials(self, url):
        """The Authorization header of this url, from the environment, or None."""
        parts = urlsplit(url)
        if self.auth.get("host") != parts.hostname:
            return None
        if "token" in self.auth:
            token = os.environ.get(self.auth["token"])
            return f"Bearer {token}" if token else None
        user, password = os.environ.get(self.auth["user"]), os.environ.get(self.auth["password"])
        if not user or not password:
            return None
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def body(self, reply):
        """The reply's bytes as they come. Raises Broken where they stop coming."""
        since, got = time.monotonic(), 0
        read = getattr(reply, "read1", None) or reply.read
        while True:
            try:
                chunk = read(1 << 16)
            except socket.timeout:
                raise Broken(f"nothing came for {self.stall:g} s") from None
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise Broken(f"the connection broke ({type(error).__name__})") from None
            if not chunk:
                return
            yield chunk
            got += len(chunk)
            now = time.monotonic()
            if now - since >= self.stall:
                if got < SLOWEST * (now - since):
                    raise Broken(f"only {got} bytes came in {now - since:.0f} s")
                since, got = now, 0


def unanswered(reason, stall):
    """What it means that urllib got no reply. Reasons are OSErrors, or words of our own (Redirects) and of urllib."""
    if isinstance(reason, socket.timeout) or "timed out" in str(reason):
        return Unreachable(f"no answer for {stall:g} s")
    if isinstance(reason, ssl.SSLError):
        return MirrorFailed(
            f"its certificate does not stand ({reason.reason or 'TLS error'}): is a proxy in between, or the clock wrong?"
        )
    if isinstance(reason, socket.gaierror):
        return MirrorFailed("no such host, or no network: check the connection and the proxy variables")
    if isinstance(reason, ConnectionRefusedError):
        return MirrorFailed("nothing answers there (connection refused)")
    if isinstance(reason, OSError) and reason.errno is not None:
        return Unreachable(f"cannot connect ({reason.strerror})")
    return MirrorFailed(str(reason))
