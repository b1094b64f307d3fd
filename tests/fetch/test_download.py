"""One file from hosts that misbehave: it arrives whole and right, or not at all, and every line says why."""

import io
import os
import time
import unittest
import unittest.mock
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from common import Case, md5, noise
from server import Raw, cut, drip, drip_headers, page, redirect, refuse, slow, stall, whole

from fetching.download import TRIES, retry_after

RIGHT = noise(300_000)


class Download(Case):
    def test_plain(self):
        self.download(self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_what_is_whole_already_is_not_asked_for_again(self):
        item = self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT)
        self.download(item)
        self.download(item)
        self.assertEqual(len(self.host.log), 1)

    def test_a_wrong_file_under_the_right_name_is_replaced(self):
        item = self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT)
        (self.folder / "files").mkdir()
        (self.folder / "files" / "a.bin").write_bytes(b"something else")
        self.download(item)
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_cut_connections_are_continued(self):
        url = self.host.serve("/a", cut(RIGHT, 100_000), cut(RIGHT, 50_000), whole(RIGHT))
        said = self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        self.assertEqual(
            [asked.get("Range") for asked in self.host.asked("/a")], [None, "bytes=100000-", "bytes=150000-"]
        )
        self.assertEqual(self.host.asked("/a")[1]["If-Range"], '"one"')
        self.assertIn("ended at 100,000 of 300,000 bytes", said)

    def test_a_file_that_changed_meanwhile_starts_over(self):
        other = noise(300_000, 2)
        url = self.host.serve("/a", cut(other, 100_000, tag='"old"'), whole(RIGHT, tag='"new"'))
        self.download(self.file([url], at_most=10**6))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_without_validator_and_checksum_a_part_is_never_continued(self):
        url = self.host.serve("/a", cut(RIGHT, 100_000, tag=None), whole(RIGHT, tag=None))
        self.download(self.file([url]))
        self.assertEqual([asked.get("Range") for asked in self.host.asked("/a")], [None, None])
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_weak_tag_is_no_validator(self):
        url = self.host.serve("/a", cut(RIGHT, 100_000, tag='W/"x"'), whole(RIGHT, tag='W/"x"'))
        self.download(self.file([url]))
        self.assertEqual(self.host.asked("/a")[1].get("Range"), None)

    def test_hosts_without_ranges_start_over(self):
        url = self.host.serve("/a", cut(RIGHT, 100_000, ranges=False), whole(RIGHT, ranges=False))
        self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_mixture_of_two_files_is_found_and_fetched_again(self):
        url = self.host.serve("/a", cut(noise(300_000, 3), 100_000, tag=None), whole(RIGHT, tag=None))
        said = self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        self.assertIn("once more from the start", said)

    def test_another_range_than_asked_for(self):
        def wrong(request):
            request.send_response(206)
            request.send_header("Content-Range", "bytes 5-299999/300000")
            request.send_header("Content-Length", "299995")
            request.end_headers()
            request.wfile.write(RIGHT[5:])

        url = self.host.serve("/a", cut(RIGHT, 100_000), wrong, whole(RIGHT))
        self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_whole_part_left_by_a_kill_is_only_verified(self):
        item = self.file([self.host.serve("/a", refuse(500))], of=RIGHT)
        (self.folder / "files").mkdir()
        (self.folder / "files" / "a.bin.part").write_bytes(RIGHT)
        self.download(item)
        self.assertEqual(self.host.log, [])
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_whole_part_of_unknown_length_ends_with_416(self):
        (self.folder / "files").mkdir()
        (self.folder / "files" / "a.bin.part").write_bytes(RIGHT)
        self.download(self.file([self.host.serve("/a", whole(RIGHT))], md5=md5(RIGHT)))
        self.assertEqual(self.host.asked("/a")[0]["Range"], "bytes=300000-")
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_part_longer_than_the_file_is_dropped(self):
        (self.folder / "files").mkdir()
        (self.folder / "files" / "a.bin.part").write_bytes(RIGHT + b"more")
        self.download(self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_wrong_bytes_go_to_the_next_mirror(self):
        bad = self.host.serve("/bad", whole(noise(300_000, 4)))
        good = self.host.serve("/good", whole(RIGHT))
        said = self.download(self.file([bad, good], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        self.assertRegex(said, r"/bad: its md5 is \w{32}, the list says \w{32}; trying the next mirror")

    def test_wrong_bytes_everywhere_keep_nothing(self):
        bad = self.host.serve("/bad", whole(noise(300_000, 4)))
        self.assertIn("the list says " + md5(RIGHT), self.fails(self.file([bad], of=RIGHT)))
        self.assertEqual(self.kept(), {})

    def test_the_start_of_a_sha256_and_a_git_blob_count_as_checksums(self):
        url = self.host.serve("/a", whole(b"hello\n"))
        self.download(self.file([url], git_blob="ce013625030ba8dba906f756967f9e9ca394464a"))
        (self.folder / "files" / "a.bin").unlink()
        self.download(self.file([url], sha256_starts_with="5891b5b5"))
        (self.folder / "files" / "a.bin").unlink()
        self.assertIn("the list says 5891b5b6...", self.fails(self.file([url], sha256_starts_with="5891b5b6")))
        self.assertIn("git blob", self.fails(self.file([url], git_blob="0" * 40)))

    def test_a_wrong_length_is_refused_before_a_byte_is_written(self):
        url = self.host.serve("/a", whole(RIGHT + b"!"))
        self.assertIn("its file has 300,001 bytes, the list says 300,000", self.fails(self.file([url], of=RIGHT)))
        self.assertEqual(self.kept(), {})

    def test_more_than_the_list_allows(self):
        url = self.host.serve("/a", whole(RIGHT))
        self.assertIn("more than the 1,000 that the list allows", self.fails(self.file([url], at_most=1000)))

        def endless(request):
            request.send_response(200)
            request.end_headers()
            for _ in range(1000):
                request.wfile.write(b"x" * 10_000)
            request.close_connection = True

        url = self.host.serve("/b", endless)
        self.assertIn("it sends more than the 50,000 bytes", self.fails(self.file([url], at_most=50_000)))
        self.assertEqual(self.kept(), {})

    def test_a_stall_times_out_and_is_continued(self):
        url = self.host.serve("/a", stall(RIGHT, 100_000, 3), whole(RIGHT))
        said = self.download(self.file([url], of=RIGHT), stall=0.3)
        self.assertIn("nothing came for 0.3 s", said)
        self.assertEqual(self.host.asked("/a")[1]["Range"], "bytes=100000-")
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_drip_counts_as_a_stall(self):
        url = self.host.serve("/a", drip(RIGHT[:1000], 0.02))
        good = self.host.serve("/b", whole(RIGHT))
        said = self.download(self.file([url, good], of=RIGHT, bytes="none published", at_most=10**6), stall=0.2)
        self.assertRegex(said, r"only \d+ bytes came in")
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_headers_that_never_end_are_cut(self):
        good = self.host.serve("/b", whole(RIGHT))
        # A byte of one endless line, whole lines for ever, and "go on" for ever.
        for line in (b"X: " + b"a" * 500, b"X: y\r\n"):
            url = self.host.serve("/a", drip_headers(line, 0.02))
            before = time.monotonic()
            said = self.download(self.file([url, good], of=RIGHT, name=f"{len(line)}.bin"), stall=0.1)
            self.assertIn("no whole answer within 0.2 s", said)
            self.assertLess(time.monotonic() - before, 8)
        self.assertEqual(set(self.kept().values()), {RIGHT})

    def test_an_answer_that_is_only_announced_is_cut(self):
        def speak(connection):
            for _ in range(500):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.02)

        host = Raw(speak)
        self.addCleanup(host.close)
        self.assertIn("no whole answer", self.fails(self.file([f"http://127.0.0.1:{host.port}/a"]), stall=0.1))
        self.assertEqual(self.kept(), {})

    def test_a_handshake_that_never_ends_is_cut(self):
        def drips(connection):
            # The start of a TLS record of 16 kB, a byte at a time.
            connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\x00")
            for _ in range(500):
                connection.sendall(b"\0")
                time.sleep(0.02)

        for speak in (drips, lambda _: time.sleep(5)):
            host = Raw(speak)
            self.addCleanup(host.close)
            before = time.monotonic()
            error = self.fails(self.file([f"https://127.0.0.1:{host.port}/a"]), stall=0.1)
            self.assertRegex(error, "no whole answer within 0.2 s|no answer for 0.1 s")
            self.assertLess(time.monotonic() - before, 5)
        self.assertEqual(self.kept(), {})

    def test_a_body_between_whose_bytes_nothing_is_cut(self):
        """Chunks whose lengths, and trailers, are written for ever: bytes come, none of the file."""

        def lengths(request):
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"5;")
            for _ in range(500):
                request.wfile.write(b"x")
                request.wfile.flush()
                time.sleep(0.02)

        def trailers(request):
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"5\r\nhello\r\n0\r\n")
            for _ in range(500):
                request.wfile.write(b"X: y\r\n")
                request.wfile.flush()
                time.sleep(0.02)

        for answer in (lengths, trailers):
            before = time.monotonic()
            url = self.host.serve("/a", answer)
            self.assertRegex(self.fails(self.file([url]), stall=0.1), "nothing came for 0.1 s|only [0-9]+ bytes")
            self.assertLess(time.monotonic() - before, 5)

    def test_a_host_that_ignores_if_range_is_held_to_the_same_file(self):
        """It continues with another file's bytes and says so in its tag, its date or its length; no checksum is known."""
        other = noise(300_000, 5)
        for field, first, then in (
            ("ETag", '"old"', '"new"'),
            ("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT"),
        ):

            def begins(request, field=field, first=first):
                request.send_response(200)
                request.send_header(field, first)
                request.send_header("Content-Length", "300000")
                request.end_headers()
                request.wfile.write(other[:100_000])
                request.close_connection = True

            def goes_on(request, field=field, then=then):
                span = request.headers.get("Range")
                start = int(span[len("bytes=") : -1]) if span else 0
                request.send_response(206 if span else 200)
                if span:
                    request.send_header("Content-Range", f"bytes {start}-299999/300000")
                request.send_header(field, then)
                request.send_header("Content-Length", str(300_000 - start))
                request.end_headers()
                request.wfile.write(RIGHT[start:])

            name = f"{field}.bin"
            said = self.download(self.file([self.host.serve("/a", begins, goes_on)], name=name))
            self.assertIn("another one than before; starting over", said)
            self.assertEqual(self.kept()[name], RIGHT)
        longer = RIGHT + b"more"
        url = self.host.serve("/c", cut(RIGHT, 100_000), whole(longer))
        self.download(self.file([url], name="c.bin"))
        self.assertEqual(self.kept()["c.bin"], longer)

    def test_what_follows_the_body_is_no_part_of_it(self):
        def trailer(request):
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")

        def lingers(request):
            whole(RIGHT)(request)
            request.wfile.flush()
            time.sleep(1)

        self.download(self.file([self.host.serve("/a", trailer)]))
        self.assertEqual(self.kept(), {"a.bin": b"hello"})
        # A host that keeps the connection is not waited for.
        self.download(self.file([self.host.serve("/b", lingers)], of=RIGHT), stall=0.5)
        self.assertEqual((self.kept(), self.slept), ({"a.bin": RIGHT}, []))

    def test_numbers_that_are_none(self):
        for value in ("\xb2", "-5", "9" * 5000, "1e3", "0x10"):
            url = self.host.serve("/a", refuse(429, Retry_After=value), whole(RIGHT))
            self.download(self.file([url], of=RIGHT, name=f"r{len(value)}{ord(value[0])}"))
            self.assertEqual(self.slept.pop(), 1)

            def length(request, value=value):
                request.send_response(200)
                request.send_header("Content-Length", value)
                request.end_headers()
                request.wfile.write(RIGHT)
                request.close_connection = True

            self.download(self.file([self.host.serve("/b", length)], of=RIGHT, name=f"l{len(value)}{ord(value[0])}"))
            spans = cut(RIGHT, 100_000), refuse(416, Content_Range=f"bytes */{value}"), whole(RIGHT)
            self.download(self.file([self.host.serve("/c", *spans)], of=RIGHT, name=f"c{len(value)}{ord(value[0])}"))
        self.assertEqual(set(self.kept().values()), {RIGHT})

    def test_a_disk_that_is_full(self):
        real = open

        class Full(io.BytesIO):
            def write(self, data):
                raise OSError(28, "No space left on device")

        def opened(path, mode="r", *args, **kwargs):
            full = str(path).endswith(".part") and ("w" in mode or "a" in mode)
            return Full() if full else real(path, mode, *args, **kwargs)

        url = self.host.serve("/a", whole(RIGHT))
        with unittest.mock.patch("fetching.download.open", opened, create=True):
            error = self.fails(self.file([url], of=RIGHT))
        self.assertRegex(error, r"cannot write .*a\.bin\.part: No space left on device; free some room and run the same")
        self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_mirror_that_always_breaks_is_left_after_some_tries(self):
        url = self.host.serve("/a", cut(RIGHT, 0))
        good = self.host.serve("/b", whole(RIGHT))
        self.download(self.file([url, good], of=RIGHT))
        self.assertEqual(len(self.host.asked("/a")), TRIES)
        self.assertEqual(self.slept, [1, 2, 4, 8])

    def test_404_goes_on_at_once_and_all_are_named(self):
        gone = [self.host.serve("/x", refuse(404)), self.host.serve("/y", refuse(410))]
        error = self.fails(self.file(gone))
        self.assertRegex(
            error,
            r"a\.bin could not be had\. http://127\.0\.0\.1:\d+/x: it answered 404 Not Found; http://127\.0\.0\.1:\d+/y: it answered 410 Gone",
        )
        self.assertEqual(self.slept, [])

    def test_a_dead_host(self):
        good = self.host.serve("/b", whole(RIGHT))
        said = self.download(self.file(["http://127.0.0.1:9/a", "http://no-such-host.invalid/a", good], of=RIGHT))
        self.assertIn("connection refused", said)
        self.assertIn("no such host", said)
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_429_waits_as_long_as_asked(self):
        soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=9), usegmt=True)
        url = self.host.serve(
            "/a", refuse(429, Retry_After="7"), refuse(503, Retry_After=soon), refuse(429), whole(RIGHT)
        )
        self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.slept[0], 7)
        self.assertAlmostEqual(self.slept[1], 9, delta=2)
        self.assertEqual(self.slept[2], 4)

    def test_429_for_hours_is_left(self):
        url = self.host.serve("/a", refuse(429, Retry_After="7200"))
        self.assertIn("asks to wait 7200 s: run the same command after that", self.fails(self.file([url])))
        self.assertEqual(self.slept, [])

    def test_429_for_ever_ends(self):
        url = self.host.serve("/a", refuse(429, Retry_After="0"))
        self.assertIn(f"the host is busy (429) ({TRIES} times)", self.fails(self.file([url])))

    def test_500_is_tried_again(self):
        self.download(self.file([self.host.serve("/a", refuse(502), whole(RIGHT))], of=RIGHT))
        self.assertEqual(self.slept, [1])

    def test_redirects(self):
        self.host.serve("/there", whole(RIGHT))
        for status in (301, 302, 303, 307, 308):
            url = self.host.serve("/a", redirect("/there", status))
            self.download(self.file([url], of=RIGHT, name=f"{status}"))
        self.assertEqual(set(self.kept().values()), {RIGHT})

    def test_redirects_in_a_circle_or_out_of_the_web(self):
        url = self.host.serve("/a", redirect("/a"))
        self.assertIn("could not be had", self.fails(self.file([url])))
        url = self.host.serve("/b", redirect("file:///etc/passwd"))
        self.assertIn("could not be had", self.fails(self.file([url])))
        url = self.host.serve("/c", redirect("ftp://127.0.0.1/x"))
        self.assertIn("it redirects to ftp: refused", self.fails(self.file([url])))
        self.assertEqual(self.kept(), {})

    def test_a_redirect_out_of_https(self):
        """A stand-in for curl writes the headers: no certificate of this machine's stands."""
        (self.folder / "curl").write_text(
            '#!/bin/sh\nfor last; do :; done\n'
            'printf "HTTP/1.1 302 Found\\r\\nLocation: http://me:sesame@there/x?y\\r\\n\\r\\n" > "$last"\n'
        )
        (self.folder / "curl").chmod(0o755)
        with unittest.mock.patch.dict(os.environ, {"PATH": f"{self.folder}:{os.environ['PATH']}"}):
            error = self.fails(self.file(["https://127.0.0.1/a"]))
        self.assertIn("it redirects from https to plain http (http://there/x): refused", error)

    def test_a_web_page_is_no_archive(self):
        url = self.host.serve("/a", page("<html>Domain for sale</html>"))
        self.assertIn("it sent a web page where the file should be", self.fails(self.file([url], name="a.zip")))
        self.assertEqual(self.kept(), {})

    def test_a_coded_answer_is_refused(self):
        url = self.host.serve("/a", lambda request: refuse(200, Content_Encoding="gzip")(request))
        self.assertIn("gzip-coded", self.fails(self.file([url])))

    def test_nothing_at_all(self):
        self.assertIn("it sent nothing", self.fails(self.file([self.host.serve("/a", whole(b""))])))

    def test_garbage_for_a_reply(self):
        def garbage(request):
            request.wfile.write(b"what?\r\n\r\n")
            request.close_connection = True

        self.assertIn("no proper answer", self.fails(self.file([self.host.serve("/a", garbage)])))

    def test_damaged_notes_do_not_matter(self):
        (self.folder / "files").mkdir()
        (self.folder / "files" / "a.bin.part").write_bytes(RIGHT[:1000])
        (self.folder / "files" / "a.bin.part.json").write_text("{")
        self.download(self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_slow_is_not_stalled(self):
        url = self.host.serve("/a", slow(RIGHT[:40_000], 20_000))
        self.download(self.file([url], of=RIGHT[:40_000]), stall=1.5)
        self.assertEqual(self.slept, [])

    def test_retry_after(self):
        self.assertEqual(retry_after("12"), 12)
        self.assertEqual(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), 0)
        self.assertIsNone(retry_after("soon"))
        self.assertIsNone(retry_after(None))


class Drive(Case):
    FORM = '<form id="download-form" action="{to}" method="get"><input type="hidden" name="id" value="X&amp;Y"><input type="hidden" name="confirm" value="t"><input type="submit" value="Download anyway"></form>'

    def test_the_confirm_page_is_confirmed(self):
        self.host.serve("/download", whole(RIGHT))
        url = self.host.serve("/uc", page(self.FORM.format(to=self.host.url + "/download")))
        self.download(self.file([url + "?id=X"], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        self.assertTrue(any(path.endswith("/download?id=X%26Y&confirm=t") for path, _ in self.host.log), self.host.log)

    def test_the_cookies_of_the_page_open_the_way(self):
        def confirm(request):
            request.send_response(200)
            request.send_header("Set-Cookie", "download_warning=yes")
            request.send_header("Content-Type", "text/html")
            request.end_headers()
            request.wfile.write(self.FORM.format(to="/download").encode())
            request.close_connection = True

        def guarded(request):
            (whole(RIGHT) if request.headers.get("Cookie") == "download_warning=yes" else refuse(403))(request)

        self.host.serve("/download", guarded)
        self.download(self.file([self.host.serve("/uc", confirm)], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_a_part_is_continued_behind_the_page(self):
        self.host.serve("/download", cut(RIGHT, 100_000), whole(RIGHT))
        url = self.host.serve("/uc", page(self.FORM.format(to="/download")))
        self.download(self.file([url], of=RIGHT))
        self.assertEqual(self.host.asked("/download")[1]["Range"], "bytes=100000-")
        self.assertEqual(self.kept(), {"a.bin": RIGHT})

    def test_quota_and_sign_in_and_strange_forms_are_said(self):
        for text, words in (
            ("<title>Google Drive - Quota exceeded</title>", "quota for this file is used up"),
            ("<a href='https://accounts.google.com/x'>Sign in</a>", "wants you signed in"),
            (self.FORM.format(to="https://example.org/download"), "leads to another host: refused"),
            (self.FORM.format(to="/uc"), "one confirm page after another"),
            (self.FORM.format(to="http://[::1"), "a web page where the file should be"),
            ("<![foo[ ]]>" + self.FORM.format(to="/x"), "could not be had"),
            ("<" * 100_000, "a web page where the file should be"),
        ):
            url = self.host.serve("/uc", page(text))
            error = self.fails(self.file([url]))
            self.assertIn(words, error)
            self.assertEqual(self.kept(), {})


if __name__ == "__main__":
    unittest.main()
