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


def send(request, status, body=b"", length=None, **headers):
    """An answer's head, and what is sent at once of its body; `length` promises another one, False none at all."""
    request.send_response(status)
    for name, value in headers.items():
        if value:
            request.send_header(name.replace("_", "-"), value)
    if length is not False:
        request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)
    request.wfile.flush()


def drop_by_drop(request, drops, every):
    for drop in drops:
        request.wfile.write(drop)
        request.wfile.flush()
        time.sleep(every)


def span(start, data):
    """The head of a part from `start` on, if it is one."""
    return {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}


def wanted(request):
    asked = request.headers.get("Range")
    return int(asked[len("bytes=") : -1]) if asked else 0


def whole(data, tag=TAG, kind="application/octet-stream", ranges=True):
    """A well-behaved host: ranges, If-Range, a strong ETag."""

    def answer(request):
        start = wanted(request) if ranges and request.headers.get("If-Range") in (None, tag) else 0
        if start >= len(data) > 0:
            return send(request, 416, Content_Range=f"bytes */{len(data)}")
        send(request, 206 if start else 200, data[start:], ETag=tag, Content_Type=kind, **span(start, data))

    return answer


def cut(data, after, tag=TAG, ranges=True):
    """Promises everything and hangs up after `after` more bytes."""

    def answer(request):
        start = wanted(request) if ranges else 0
        body = data[start : start + after]
        send(request, 206 if start else 200, body, len(data) - start, ETag=tag, **span(start, data))
        request.close_connection = True

    return answer


def stall(data, after, seconds, tag=TAG):
    """Stands still after `after` bytes."""

    def answer(request):
        send(request, 200, data[:after], len(data), ETag=tag)
        time.sleep(seconds)
        request.close_connection = True

    return answer


def drip(data, every):
    """A byte now and then: never silent, never done."""

    def answer(request):
        send(request, 200, length=len(data))
        drop_by_drop(request, (bytes([byte]) for byte in data), every)

    return answer


def drip_headers(line, every, until=10):
    """An answer whose headers never end: `line` a byte at a time, again and again, for `until` seconds."""

    def answer(request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        drop_by_drop(request, (bytes([line[i % len(line)]]) for i in range(int(until / every))), every)
        request.close_connection = True

    return answer


def slow(data, rate, tag=TAG):
    """So many bytes a second, by well-behaved ranges."""

    def answer(request):
        start = wanted(request)
        send(request, 206 if start else 200, length=len(data) - start, ETag=tag, **span(start, data))
        step = max(1, rate // 20)
        drop_by_drop(request, (data[at : at + step] for at in range(start, len(data), step)), 0.05)

    return answer


def refuse(status, **headers):
    return lambda request: send(request, status, **headers)


def redirect(to, status=302):
    return refuse(status, Location=to)


def page(text, status=200, **headers):
    return lambda request: send(request, status, text.encode(), Content_Type="text/html; charset=utf-8", **headers)


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
