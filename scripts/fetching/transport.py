"""One HTTP request: proxies as the environment says, redirects watched, credentials only to the host they are for."""

from __future__ import annotations

import base64
import functools
import http.client
import os
import socket
import ssl
import threading
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


class Watch:
    """Ends a connection whose next step takes too long. A socket's own timeout starts anew with every byte, so that a
    host may send a byte now and then for ever: in a TLS handshake, in headers, in the length of a chunk."""

    def __init__(self):
        self.lock, self.socket, self.until, self.cut, self.thread = threading.Lock(), None, None, False, None

    def hold(self, made):
        """The connection from now on. A duplicate of its socket: TLS takes the socket itself away while it handshakes."""
        self.release()
        with self.lock:
            self.socket = made.dup()
            if self.cut:
                self._cut()

    def release(self):
        with self.lock:
            if self.socket is not None:
                self.socket.close()
            self.socket = None

    def start(self, seconds):
        with self.lock:
            self.cut, self.until = False, time.monotonic() + seconds
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, args=(min(seconds / 4, 1.0),), daemon=True)
                self.thread.start()

    def stop(self):
        """Whether the time was up."""
        with self.lock:
            self.until = None
            return self.cut

    def _run(self, tick):
        idle = 0
        while True:
            time.sleep(tick)
            with self.lock:
                idle = idle + 1 if self.until is None else 0
                if idle > 3:
                    self.thread = None
                    return
                if self.until is not None and time.monotonic() >= self.until:
                    self.until, self.cut = None, True
                    self._cut()

    def _cut(self):
        try:
            if self.socket is not None:
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def watched(kind, watch, *args, **kwargs):
    """An HTTPConnection or HTTPSConnection whose socket `watch` holds from the moment that it is connected."""
    made = kind(*args, **kwargs)
    connect = made._create_connection

    def create(*to, **how):
        found = connect(*to, **how)
        watch.hold(found)
        return found

    made._create_connection = create
    return made


class Http(urllib.request.HTTPHandler):
    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def http_open(self, req):
        return self.do_open(functools.partial(watched, http.client.HTTPConnection, self.watch), req)


class Https(urllib.request.HTTPSHandler):
    def __init__(self, watch):
        super().__init__()
        self.watch, self.tls = watch, ssl.create_default_context()

    def https_open(self, req):
        return self.do_open(functools.partial(watched, http.client.HTTPSConnection, self.watch), req, context=self.tls)


class Web:
    """Opens urls. `stall` seconds without enough bytes end a transfer; a connection and its headers, redirects and all,
    get twice that."""

    def __init__(self, stall=60.0, auth=None):
        self.stall = stall
        self.auth = auth or {}
        self.watch = Watch()
        # ProxyHandler reads http_proxy, https_proxy and no_proxy; cookies are kept for the length of one run.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(),
            Redirects(),
            urllib.request.HTTPCookieProcessor(),
            Http(self.watch),
            Https(self.watch),
        )

    def open(self, url, headers):
        """The reply, whatever its status. Raises Broken where no whole reply came, MirrorFailed where none will."""
        request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **headers})
        secret = self.credentials(url)
        if secret:
            request.add_unredirected_header("Authorization", secret)
        self.watch.start(2 * self.stall)
        try:
            reply = self.answer(request)
        except (Broken, MirrorFailed):
            # What went wrong may be that it was cut.
            cut = self.watch.stop()
            self.watch.release()
            if cut:
                raise self.late() from None
            raise
        # Headers that were cut look like headers that ended.
        if self.watch.stop():
            reply.close()
            self.watch.release()
            raise self.late()
        return reply

    def late(self):
        return Broken(f"no whole answer within {2 * self.stall:g} s")

    def answer(self, request):
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
            self.watch.start(2 * self.stall)
            try:
                chunk = read(1 << 16)
            except socket.timeout:
                raise Broken(f"nothing came for {self.stall:g} s") from None
            except (http.client.HTTPException, OSError, ValueError) as error:
                if self.watch.stop():
                    raise Broken(f"nothing of use came for {2 * self.stall:g} s") from None
                raise Broken(f"the connection broke ({type(error).__name__})") from None
            if self.watch.stop():
                raise Broken(f"nothing of use came for {2 * self.stall:g} s")
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
