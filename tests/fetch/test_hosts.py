"""scripts/fetch between user and host: terms, accounts, proxies, curl, wrong command lines."""

import contextlib
import io
import os
import pty
import shutil
import socket
import subprocess
import unittest

from server import refuse, slow, whole
from toy import ARCHIVE, Toy

from fetching import cli


class Hosts(Toy):
    def test_terms_are_asked_once(self):
        self.toy(terms="be kind")
        code, _, err = self.run_fetch("toy")
        self.assertEqual(code, 1)
        self.assertIn("terms: be kind", err)
        self.assertIn("run the same command with --accept-terms", err)
        self.assertEqual(self.host.log, [])
        self.fetch("toy")
        subprocess.run(["rm", "-r", str(self.data / "toy")], check=True)
        code, _, err = self.run_fetch("toy")
        self.assertEqual(code, 0, err)
        self.assertNotIn("be kind", err)

    def on_a_terminal(self, typed):
        """A run with a terminal for all three streams: (exit code, what stood on it)."""
        master, slave = pty.openpty()
        run = subprocess.Popen(self.command("toy"), stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        os.write(master, typed)
        seen = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
        os.close(master)
        return run.wait(), seen.decode()

    def test_terms_on_a_terminal_and_the_bar(self):
        self.toy(terms="be kind", answer=slow(ARCHIVE, 60_000))
        code, seen = self.on_a_terminal(b"n\n")
        self.assertEqual(code, 1)
        self.assertIn("were not accepted: nothing was fetched", seen)
        code, seen = self.on_a_terminal(b"y\n")
        self.assertEqual(code, 0, seen)
        self.assertRegex(seen, r"\rtoy\.zip|\x1b\[Ktoy\.zip \[[#.]{24}\] \d+ %, ")

    def test_no_bar_elsewhere(self):
        self.toy()
        self.assertNotIn("\r", self.fetch("toy"))
        self.assertNotIn("\x1b", self.fetch("toy"))

    def test_credentials_come_from_the_environment_and_stay_there(self):
        auth = {"host": "127.0.0.1", "user": "TOY_USER", "password": "TOY_PASSWORD"}

        def guarded(request):
            right = request.headers.get("Authorization") == "Basic bWU6aHVudGVyMg=="
            (whole(ARCHIVE) if right else refuse(401))(request)

        self.toy(answer=guarded, auth=auth)
        self.assertIn("it wants an account: set TOY_USER and TOY_PASSWORD in the environment", self.refused("toy"))
        said = self.refused("toy", env={"TOY_USER": "me", "TOY_PASSWORD": "wrong-one"})
        self.assertIn("the account was refused: check TOY_USER and TOY_PASSWORD", said)
        self.assertNotIn("wrong-one", said)
        said = self.fetch("toy", env={"TOY_USER": "me", "TOY_PASSWORD": "hunter2"})
        self.assertNotIn("hunter2", said)
        for path in self.data.rglob("*"):
            self.assertFalse(path.is_file() and b"hunter2" in path.read_bytes(), path)

    def test_credentials_do_not_follow_a_redirect_to_another_host(self):
        auth = {"host": "127.0.0.1", "user": "TOY_USER", "password": "TOY_PASSWORD"}
        elsewhere = self.host.url.replace("127.0.0.1", "localhost") + "/else"
        self.host.serve("/else", whole(ARCHIVE))
        self.toy(answer=refuse(302, Location=elsewhere), auth=auth)
        self.fetch("toy", env={"TOY_USER": "me", "TOY_PASSWORD": "hunter2"})
        self.assertIn("Authorization", self.host.asked("/toy.zip")[0])
        self.assertNotIn("Authorization", self.host.asked("/else")[0])

    def test_a_proxy_is_obeyed(self):
        self.toy()
        path = self.folder / "list.json"
        path.write_text(path.read_text().replace(self.host.url, "http://far-away.invalid"))
        self.fetch("toy", env={"http_proxy": self.host.url.replace("//", "//someone:sesame@")})
        self.assertEqual(self.host.log[0][0], "http://far-away.invalid/toy.zip")
        self.assertIn("Proxy-authorization", {name.capitalize() for name in self.host.log[0][1]})

    def test_a_proxy_that_is_not_there(self):
        self.toy()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        said = self.refused("toy", env={"http_proxy": f"http://someone:sesame@127.0.0.1:{port}", "no_proxy": ""})
        self.assertNotIn("sesame", said)

    def test_a_host_that_is_never_there_names_file_mirror_and_what_to_do(self):
        self.toy(answer=refuse(404))
        said = self.refused("toy")
        self.assertRegex(
            said,
            r"fetch: toy: toy\.zip could not be had\. http://127\.0\.0\.1:\d+/toy\.zip: it answered 404 Not Found\. Run the same command later, or get it another way and say 'scripts/fetch toy --from toy\.zip' \(https://example\.org\)",
        )
        self.nothing_made()

    def test_without_curl(self):
        self.toy()
        said = self.refused("toy", env={"PATH": str(self.folder)})
        self.assertIn("toy: downloads are made by curl, which is not installed: install it (Debian: apt-get", said)
        self.nothing_made()

    def test_an_account_is_not_to_be_read_on_the_command_line(self):
        """Of curl, which every user of the machine may list; nor do the user's own settings of curl count."""
        auth = {"host": "127.0.0.1", "token": "TOY_TOKEN"}
        (self.folder / ".curlrc").write_text("include\n")
        real = shutil.which("curl")
        (self.folder / "curl").write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/words\nexec {real} "$@"\n')
        (self.folder / "curl").chmod(0o755)
        self.toy(auth=auth)
        path = f"{self.folder}:{os.environ['PATH']}"
        self.fetch("toy", env={"TOY_TOKEN": 'hun"t\\er2', "PATH": path, "HOME": str(self.folder)})
        self.assertEqual(self.host.asked("/toy.zip")[0]["Authorization"], 'Bearer hun"t\\er2')
        words = (self.folder / "words").read_text()
        self.assertNotIn("er2", words)
        self.assertNotIn(self.host.url, words)

    def test_an_address_with_a_password_is_never_printed(self):
        """Neither of a list's url, nor of where a host leads on to, nor of the proxy."""
        secret = self.host.url.replace("//", "//someone:sesame@")
        for answer in (
            refuse(404),
            refuse(302, Location="ftp://me:sesame@127.0.0.1/x?token=sesame"),
            refuse(302, Location=secret + "/gone?token=sesame"),
            refuse(302, Location="http://me:sesame@[::1"),
            refuse(302, Location="http://me:sesame@127.0.0.1:99999999/"),
            refuse(302, Location="https://me:sesame@127.0.0.1:1/x?token=sesame"),
        ):
            self.toy(answer, urls=[secret + "/toy.zip?token=sesame"])
            said = self.refused("toy", "--stall", "0.2")
            self.assertNotIn("sesame", said)
            self.assertIn("toy.zip could not be had. http", said)

    def test_wrong_command_lines(self):
        self.toy()
        for words, says in (
            ([], "give a NAME, or --list"),
            (["tpy"], "did you mean toy?"),
            (["toy", "toy2", "--from", "x"], "no data set 'toy2'"),
            (["--nope"], "unrecognized arguments"),
        ):
            code, _, err = self.run_fetch(*words)
            self.assertEqual(code, 2)
            self.assertIn(says, err)
        for stall in ("0", "-1", "nan", "inf", "1e9"):
            with contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertEqual(cli.main(["toy", "--stall", stall, "--catalog", str(self.folder / "list.json")]), 2)
            self.assertIn("--stall", said.getvalue())
        (self.folder / "list.json").write_text("{}")
        self.assertIn("is not in order", self.refused("toy"))


if __name__ == "__main__":
    unittest.main()
