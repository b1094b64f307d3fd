"""One file from hosts that misbehave: it arrives whole and right, or not at all, and every line says why."""

import io
import os
import time
import unittest
import unittest.mock
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from common import Case, md5, noise
from server import Raw, cut, drip, drip_headers, drop_by_drop, page, redirect, refuse, send, slow, span, stall, wanted, whole

from fetching.download import TRIES, retry_after

RIGHT = noise(300_000)


class Download(Case):
    def arrives(self, *answers, item=None, stall=10.0, **fields):
        """Of a host with these answers, or as `item` says, the right file comes; what was said, and the ranges asked for."""
        item = item or self.file([self.host.serve("/a", *answers)], **(fields or {"of": RIGHT}))
        said = self.download(item, stall=stall)
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        return said, [asked.get("Range") for asked in self.host.asked("/a")]

    def put(self, name, data):
        (self.folder / "files").mkdir(exist_ok=True)
        (self.folder / "files" / name).write_bytes(data)

    def test_plain_and_once(self):
        item = self.file([self.host.serve("/a", whole(RIGHT))], of=RIGHT)
        self.arrives(item=item)
        self.arrives(item=item)
        self.assertEqual(len(self.host.log), 1)

    def test_what_lies_there_already(self):
        for name, data in (
            ("a.bin", b"something else"),
            ("a.bin.part", RIGHT + b"more"),
            ("a.bin.part", RIGHT[:1000]),
        ):
            self.put("a.bin.part.json", b"{")  # Damaged notes do not matter.
            self.put(name, data)
            self.arrives(whole(RIGHT))
            (self.folder / "files" / "a.bin").unlink()

    def test_a_whole_part_left_by_a_kill_is_only_verified(self):
        self.put("a.bin.part", RIGHT)
        self.arrives(refuse(500))
        self.assertEqual(self.host.log, [])

    def test_a_whole_part_of_unknown_length_ends_with_416(self):
        self.put("a.bin.part", RIGHT)
        self.assertEqual(self.arrives(whole(RIGHT), md5=md5(RIGHT))[1][0], "bytes=300000-")

    def test_cut_connections_are_continued(self):
        said, ranges = self.arrives(cut(RIGHT, 100_000), cut(RIGHT, 50_000), whole(RIGHT))
        self.assertEqual(ranges, [None, "bytes=100000-", "bytes=150000-"])
        self.assertEqual(self.host.asked("/a")[1]["If-Range"], '"one"')
        self.assertIn("ended at 100,000 of 300,000 bytes", said)

    def test_a_file_that_changed_meanwhile_starts_over(self):
        self.arrives(cut(noise(300_000, 2), 100_000, tag='"old"'), whole(RIGHT, tag='"new"'), at_most=10**6)

    def test_without_checksum_and_a_strong_tag_a_part_is_never_continued(self):
        for tag in (None, 'W/"x"'):
            self.host.log.clear()
            ranges = self.arrives(cut(RIGHT, 100_000, tag=tag), whole(RIGHT, tag=tag), at_most=10**6)[1]
            self.assertEqual(ranges, [None, None])
            (self.folder / "files" / "a.bin").unlink()

    def test_hosts_without_ranges_start_over(self):
        self.arrives(cut(RIGHT, 100_000, ranges=False), whole(RIGHT, ranges=False))

    def test_a_mixture_of_two_files_is_found_and_fetched_again(self):
        said, _ = self.arrives(cut(noise(300_000, 3), 100_000, tag=None), whole(RIGHT, tag=None))
        self.assertIn("once more from the start", said)

    def test_another_range_than_asked_for(self):
        wrong = lambda request: send(request, 206, RIGHT[5:], Content_Range="bytes 5-299999/300000")  # noqa: E731
        self.arrives(cut(RIGHT, 100_000), wrong, whole(RIGHT))

    def test_wrong_bytes_go_to_the_next_mirror(self):
        bad = self.host.serve("/bad", whole(noise(300_000, 4)))
        good = self.host.serve("/good", whole(RIGHT))
        said, _ = self.arrives(item=self.file([bad, good], of=RIGHT))
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
            send(request, 200, length=False)
            drop_by_drop(request, [b"x" * 10_000] * 1000, 0)
            request.close_connection = True

        url = self.host.serve("/b", endless)
        self.assertIn("it sends more than the 50,000 bytes", self.fails(self.file([url], at_most=50_000)))
        self.assertEqual(self.kept(), {})

    def test_a_stall_times_out_and_is_continued(self):
        said, ranges = self.arrives(stall(RIGHT, 100_000, 3), whole(RIGHT), stall=0.3)
        self.assertIn("nothing came for 0.3 s", said)
        self.assertEqual(ranges[1], "bytes=100000-")

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

        for begin, again in ((b"5;", b"x"), (b"5\r\nhello\r\n0\r\n", b"X: y\r\n")):

            def answer(request, begin=begin, again=again):
                send(request, 200, begin, False, Transfer_Encoding="chunked")
                drop_by_drop(request, [again] * 500, 0.02)

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

            def begins(request, told={field.replace("-", "_"): first}):
                send(request, 200, other[:100_000], 300_000, **told)
                request.close_connection = True

            def goes_on(request, told={field.replace("-", "_"): then}):
                start = wanted(request)
                send(request, 206 if start else 200, RIGHT[start:], **told, **span(start, RIGHT))

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
            send(request, 200, b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", False, Transfer_Encoding="chunked")

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
                send(request, 200, RIGHT, value)
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
        self.arrives(refuse(502), whole(RIGHT))
        self.assertEqual(self.slept, [1])

    def test_redirects(self):
        self.host.serve("/there", whole(RIGHT))
        for status in (301, 302, 303, 307, 308):
            url = self.host.serve("/a", redirect("/there", status))
            self.download(self.file([url], of=RIGHT, name=f"{status}"))
        self.assertEqual(set(self.kept().values()), {RIGHT})

    def test_redirects_in_a_circle_or_out_of_the_web(self):
        for to, says in (
            ("/a", "could not be had"),
            ("file:///etc/passwd", "could not be had"),
            ("ftp://127.0.0.1/x", "it redirects to ftp: refused"),
        ):
            self.assertIn(says, self.fails(self.file([self.host.serve("/a", redirect(to))])))
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

    def test_answers_that_are_none(self):
        def garbage(request):
            request.wfile.write(b"what?\r\n\r\n")
            request.close_connection = True

        for answer, says in (
            (page("<html>Domain for sale</html>"), "it sent a web page where the file should be"),
            (refuse(200, Content_Encoding="gzip"), "gzip-coded"),
            (whole(b""), "it sent nothing"),
            (garbage, "no proper answer"),
        ):
            self.assertIn(says, self.fails(self.file([self.host.serve("/a", answer)], name="a.zip")))
            self.assertEqual(self.kept(), {})

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

    def test_the_page_is_confirmed_its_cookies_open_the_way_and_a_part_is_continued(self):
        def guarded(request):
            known = request.headers.get("Cookie") == "download_warning=yes"
            (whole(RIGHT) if wanted(request) else cut(RIGHT, 100_000) if known else refuse(403))(request)

        self.host.serve("/download", guarded)
        confirm = page(self.FORM.format(to=self.host.url + "/download"), Set_Cookie="download_warning=yes")
        self.download(self.file([self.host.serve("/uc", confirm) + "?id=X"], of=RIGHT))
        self.assertEqual(self.kept(), {"a.bin": RIGHT})
        self.assertTrue(any(path.endswith("/download?id=X%26Y&confirm=t") for path, _ in self.host.log), self.host.log)
        self.assertEqual([asked.get("Range") for asked in self.host.asked("/download")], [None, "bytes=100000-"])

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
