"""Archives that mean harm: nothing leaves the folder, nothing grows past the bound, nothing is linked."""

import gzip
import io
import stat
import tarfile
import unittest
import zipfile

from common import Case, Problem, noise

from fetching.catalog import Unpack
from fetching.unpack import unpack


def rules(**fields):
    return Unpack(**{"files": 100, "bytes": 10**6, **fields})


class Archives(Case):
    def archives(self):
        folder = self.folder / "in"
        folder.mkdir(exist_ok=True)
        return folder

    def zip(self, *members, name="a.zip", packing=zipfile.ZIP_DEFLATED):
        path = self.archives() / name
        with zipfile.ZipFile(path, "w", packing) as archive:
            for member, data in members:
                archive.writestr(member, data)
        return path

    def tar(self, *members, name="a.tar", mode="w"):
        """Members are (name, bytes) or TarInfo."""
        path = self.archives() / name
        with tarfile.open(path, mode) as archive:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    archive.addfile(member)
                else:
                    header = tarfile.TarInfo(member[0])
                    header.size = len(member[1])
                    archive.addfile(header, io.BytesIO(member[1]))
        return path

    def out(self, archive, **fields):
        unpack(archive, self.folder / "out", rules(**fields))
        return self.tree(self.folder / "out")

    def refused(self, archive, **fields):
        with self.assertRaises(Problem) as caught:
            self.out(archive, **fields)
        # Whatever it tried, nothing lies beside the folder it was given.
        outside = [path.name for path in self.folder.iterdir() if path.name not in ("out", "in")] + [
            path.name for path in self.archives().iterdir() if path.name not in ("a.zip", "a.tar", "a.tgz")
        ]
        self.assertEqual(outside, [])
        return str(caught.exception)

    def test_both_kinds(self):
        for archive in (
            self.zip(("x/1", b"one"), ("x/y/2", b"two")),
            self.tar(("x/1", b"one"), ("x/y/2", b"two"), name="a.tgz", mode="w:gz"),
        ):
            self.assertEqual(self.out(archive), {"x/1": b"one", "x/y/2": b"two"})

    def test_strip_take_into(self):
        archive = self.zip(
            ("top/data/A/1.jpg", b"1"), ("top/data/B/2.jpg", b"2"), ("top/README", b"r"), ("top/notes/3", b"3")
        )
        self.assertEqual(
            self.out(archive, strip=1, take={"data/": "lfw/", "README": "about.txt"}, into="sub"),
            {"sub/lfw/A/1.jpg": b"1", "sub/lfw/B/2.jpg": b"2", "sub/about.txt": b"r"},
        )

    def test_leftovers_are_left_out(self):
        archive = self.zip(
            ("__MACOSX/x", b"1"), ("x/.DS_Store", b"2"), ("x/._1", b"3"), ("x/Thumbs.db", b"4"), ("x/1", b"5")
        )
        self.assertEqual(self.out(archive), {"x/1": b"5"})

    def test_names_that_lead_out(self):
        for name in ("../evil", "x/../../evil", "/evil", "//evil", "C:/evil", "C:evil", "x\\..\\..\\evil"):
            for archive in (self.zip((name, b"!")), self.tar((name, b"!"))):
                if name == "//evil" and archive.suffix == ".tar":
                    continue
                self.assertRegex(self.refused(archive), "leads out|not a plain relative name", name)

    def test_links_and_devices(self):
        for kind, to in (
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.SYMTYPE, "../.."),
            (tarfile.LNKTYPE, "/etc/passwd"),
            (tarfile.FIFOTYPE, ""),
            (tarfile.CHRTYPE, ""),
        ):
            link = tarfile.TarInfo("x/link")
            link.type, link.linkname = kind, to
            self.assertIn("which is a link or a device: refused", self.refused(self.tar(link, ("x/link/evil", b"!"))))
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        self.assertIn("which is a link or a device: refused", self.refused(self.zip((link, b"/etc/passwd"))))

    def test_a_file_where_a_folder_must_be(self):
        self.assertIn("within what is a file already", self.refused(self.tar(("x", b"1"), ("x/y", b"2"))))

    def test_a_name_twice(self):
        self.assertIn("twice", self.refused(self.tar(("x", b"1"), ("./x", b"2"))))

    def test_bombs(self):
        bomb = self.zip(("zeros", b"\0" * 5_000_000))
        self.assertLess(bomb.stat().st_size, 10_000)
        self.assertIn("more than the 1,000,000 bytes", self.refused(bomb))
        bomb.unlink()
        bomb = self.tar(("zeros", b"\0" * 5_000_000), name="a.tgz", mode="w:gz")
        self.assertIn("more than the 1,000,000 bytes", self.refused(bomb))
        bomb.unlink()
        many = self.zip(*((f"d/{i}", b"") for i in range(101)))
        self.assertIn("more than the 100 files", self.refused(many))
        many.unlink()
        # Members that would not be taken count too.
        self.assertIn(
            "more than the 100 files", self.refused(self.tar(*((f"d/{i}", b"") for i in range(101))), take={"x": "x"})
        )

    def test_a_zip_that_lies_about_a_size(self):
        path = self.zip(("x", b"\0" * 2_000_000))
        data = bytearray(path.read_bytes())
        real, lie = (2_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
        self.assertGreaterEqual(data.count(real), 2)
        path.write_bytes(data.replace(real, lie))
        self.refused(path)
        self.assertLessEqual((self.folder / "out" / "x").stat().st_size, 1_000_000)

    def test_a_header_as_a_memory_bomb(self):
        header = tarfile.TarInfo("long")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 100_000_000
        path = self.archives() / "a.tgz"
        with gzip.open(path, "wb") as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            file.write(b"x" * 1_000_000)
        self.assertIn("a.tgz is damaged or no archive", self.refused(path))

    def test_damage(self):
        path = self.archives() / "a.zip"
        path.write_bytes(noise(1000))
        self.assertIn("a.zip is damaged or no archive", self.refused(path))
        path.write_bytes(b"")
        self.assertIn("a.zip is damaged or no archive", self.refused(path))
        good = self.zip(("x", noise(50_000))).read_bytes()
        path.write_bytes(good[:20_000] + b"????" + good[20_004:])
        self.assertIn("a.zip is damaged", self.refused(path))
        path.unlink()
        path = self.tar(("x", noise(50_000)), name="a.tgz", mode="w:gz")
        path.write_bytes(path.read_bytes()[:20_000])
        self.assertIn("a.tgz is damaged", self.refused(path))

    def test_an_encrypted_zip(self):
        path = self.zip(("x", b"secret"))
        data = bytearray(path.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(data)
        self.assertIn("a.zip is encrypted: unpack it with its password", self.refused(path))

    def test_names_that_are_one_on_some_disks(self):
        for first, second in (("x/Photo", "x/photo"), ("e\u0301", "\u00e9"), ("X", "x/y")):
            for archive in (self.zip((first, b"1"), (second, b"2")), self.tar((first, b"1"), (second, b"2"))):
                self.assertRegex(self.refused(archive), "in other capitals too|within what is a file already")

    def test_names_too_long_or_of_no_alphabet(self):
        for name in ("n" * 300, "/".join(["d" * 200] * 30)):
            for archive in (self.zip((name, b"1")), self.tar((name, b"1"))):
                self.assertIn("File name too long", self.refused(archive))
        header = tarfile.TarInfo("x")
        data = bytearray(header.tobuf(tarfile.USTAR_FORMAT))
        data[0:3] = b"\xff\xfex"
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        path = self.archives() / "a.tar"
        path.write_bytes(bytes(data) + bytes(1024))
        try:
            self.out(path)
        except Problem as error:
            self.assertNotIn("\n", str(error))
        for name in ("x\ny", "x\ty", "\x1b[2J"):
            self.assertIn("not a plain relative name", self.refused(self.tar((name, b"1"))))

    def test_sparse_files_and_pax_tricks(self):
        sparse = tarfile.TarInfo("hole")
        sparse.type = tarfile.GNUTYPE_SPARSE
        data = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
        data[386:398], data[398:410], data[483:495] = b"%011o\0" % 0, b"%011o\0" % 0, b"%011o\0" % (1 << 32)
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        path = self.archives() / "a.tar"
        path.write_bytes(bytes(data) + bytes(1024))
        self.assertRegex(self.refused(path), "sparse|more than the 1,000,000 bytes")
        for headers, says in (
            ({"path": "../evil"}, "leads out"),
            ({"path": "/evil"}, "leads out"),
            ({"size": "-512"}, "damaged"),
            ({"size": "9" * 30}, "more than the 1,000,000 bytes|damaged"),
            ({"size": "x"}, "damaged|twice|bytes"),
            ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "999999999999"}, "sparse|damaged|more than"),
            ({"GNU.sparse.map": "0,1,99999999999,1", "GNU.sparse.size": "99999999999"}, "sparse|damaged|more than"),
        ):
            member = tarfile.TarInfo("x")
            member.pax_headers = headers
            archive = self.folder / "in" / "a.tar"
            with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as out:
                member.size = 4
                out.addfile(member, io.BytesIO(b"1\n0\n"))
            if headers == {"size": "x"}:
                # Python takes what is no number for 0.
                try:
                    self.out(archive)
                except Problem as error:
                    self.assertRegex(str(error), says)
                continue
            self.assertRegex(self.refused(archive), says, headers)

    def test_headers_one_in_another(self):
        """A thousand pax headers about each other, and a size below 0 in a header itself."""
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 0
        path = self.archives() / "a.tar"
        path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000 + bytes(1024))
        self.assertIn("a.tar is damaged or no archive", self.refused(path))
        data = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
        data[124:136] = b"\xff" * 10 + b"\xfe\x00"
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        path.write_bytes((bytes(data) + bytes(512)) * 3 + bytes(1024))
        self.assertIn("damaged", self.refused(path))

    def test_what_is_left_out_counts(self):
        """Skipping a terabyte takes as long as reading it."""
        archive = self.tar(*((f"d/{i}", b"\0" * 400_000) for i in range(3)), name="a.tgz", mode="w:gz")
        self.assertIn("more than the 1,000,000 bytes", self.refused(archive, take={"x": "x"}))

    def test_names_with_control_characters_do_not_reach_the_terminal(self):
        self.assertNotIn("\x1b", self.refused(self.zip(("../\x1b[2J", b"!"))))


if __name__ == "__main__":
    unittest.main()
