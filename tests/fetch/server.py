"""A host on 127.0.0.1 that misbehaves as told: each path has a list of answers, one a request, the last one repeated."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TAG = '"one"'


class Host:
    """`answers[path]` is a list of functions of the request handler; `log` has (path, headers) of every request."""

    def __init__(self):
        self.answers, self.log = {}, []
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                # A proxy is asked for whole addresses.
                path = urlsplit(self.path).path
                host.log.append((self.path, dict(self.headers)))
                waiting = host.answers.get(path)
                if not waiting:
                    return refuse(404)(self)
                answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, path, *answers):
        self.answers[path] = list(answers)
        return self.url + path

    def asked(self, path):
        """The headers of every request for a path."""
        return [headers for asked, headers in self.log if urlsplit(asked).path == path]


def whole(data, tag=TAG, kind="application/octet-stream", ranges=True):
    """A well-behaved host: ranges, If-Range, a strong ETag."""

    def answer(request):
        start = wanted(request) if ranges else None
        if start is not None and request.headers.get("If-Range") not in (None, tag):
            start = None
        if start is not None and start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = data[start or 0 :]
        request.send_response(206 if start is not None else 200)
        if start is not None:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if tag:
            request.send_header("ETag", tag)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def wanted(request):
    span = request.headers.get("Range")
    return int(span[len("bytes=") : -1]) if span else None


def cut(data, after, tag=TAG, ranges=True):
    """Promises everything and hangs up after `after` more bytes."""

    def answer(request):
        start = (wanted(request) or 0) if ranges else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if tag:
            request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        request.wfile.write(data[start : start + after])
        request.wfile.flush()
        request.close_connection = True

    return answer


def stall(data, after, seconds, tag=TAG):
    """Stands still after `after` bytes."""

    def answer(request):
        request.send_response(200)
        if tag:
            request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:after])
        request.wfile.flush()
        time.sleep(seconds)
        request.close_connection = True

    return answer


def drip(data, every):
    """A byte now and then: never silent, never done."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for byte in data:
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
            time.sleep(every)

    return answer


def drip_headers(line, every, until=10):
    """An answer whose headers never end: `line` a byte at a time, again and again, for `until` seconds."""

    def answer(request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        ends = time.monotonic() + until
        while time.monotonic() < ends:
            for byte in line:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                time.sleep(every)
        request.close_connection = True

    return answer


class Raw:
    """A host that is no web server: `speak(connection)` has every connection."""

    def __init__(self, speak):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections = 0

        def one(connection):
            with connection:
                try:
                    speak(connection)
                except OSError:
                    pass

        def run():
            while True:
                try:
                    connection, _ = self.socket.accept()
                except OSError:
                    return
                self.connections += 1
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=run, daemon=True).start()

    def close(self):
        self.socket.close()


def slow(data, rate, tag=TAG):
    """So many bytes a second, by well-behaved ranges."""

    def answer(request):
        start = wanted(request)
        body = data[start or 0 :]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        step = max(1, rate // 20)
        for at in range(0, len(body), step):
            request.wfile.write(body[at : at + step])
            request.wfile.flush()
            time.sleep(0.05)

    return answer


def refuse(status, **headers):
    def answer(request):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def redirect(to, status=302):
    return refuse(status, Location=to)


def page(text, status=200):
    def answer(request):
        body = text.encode()
        request.send_response(status)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer
