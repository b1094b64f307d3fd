"""insightface's MXNet record file (`train.rec`, with `train.idx` and `property`) as one folder a person.

A record is a magic word, a word with its kind (3 bits) and length (29 bits), and the bytes, padded to four. A record in
which the magic word would occur is cut there into parts. The bytes are a header (flag, label, id, id2), `flag` more
labels, and the photo as it was encoded; records without a photo only describe the file.
"""

import struct

from ..problems import Problem
from . import files

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
HEADER = struct.Struct("<IfQQ")
# No aligned face is this large; a longer record is damage.
LONGEST = 1 << 26
ENDINGS = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"))


def convert(source, target, options, owned=False):
    found = [path for path in files(source) if path.name == "train.rec"]
    if len(found) != 1:
        raise Problem(f"{len(found)} files train.rec below {source}: one is needed")
    record_file = found[0]
    seen, records = {}, 0
    for payload in records_of(record_file):
        records += 1
        person, photo = parsed(payload, record_file, records)
        if not photo:
            continue
        ending = next((ending for start, ending in ENDINGS if photo.startswith(start)), None)
        if ending is None:
            raise Problem(f"record {records} of {record_file} holds no JPEG or PNG: fetch it again")
        number = seen[person] = seen.get(person, 0) + 1
        folder = target / f"{person:07d}"
        if number == 1:
            folder.mkdir()
        (folder / f"{person:07d}_{number:04d}.{ending}").write_bytes(photo)
    compare(record_file, seen, records)


def records_of(path):
    """The records' bytes, in order."""
    parts = []
    with open(path, "rb") as file:
        while start := file.read(8):
            magic, word = struct.unpack("<II", start) if len(start) == 8 else (0, 0)
            kind, length = word >> 29, word & ((1 << 29) - 1)
            if magic != MAGIC or length > LONGEST:
                raise Problem(f"{path} is damaged at byte {file.tell() - len(start):,}: fetch it again")
            data = file.read(length)
            if len(data) < length:
                raise Problem(f"{path} ends within a record: fetch it again")
            file.read(-length % 4)
            if (kind in (WHOLE, FIRST)) == bool(parts) or kind > LAST:
                where = f"a record's parts are out of order at byte {file.tell():,}"
                raise Problem(f"{path} is damaged: {where}; fetch it again")
            parts.append(data)
            if kind in (WHOLE, LAST):
                yield struct.pack("<I", MAGIC).join(parts)
                parts = []
    if parts:
        raise Problem(f"{path} ends within a record: fetch it again")


def parsed(payload, path, number):
    """Person and encoded photo of a record."""
    if len(payload) < HEADER.size:
        raise Problem(f"record {number} of {path} has no header: fetch it again")
    flag, label, _, _ = HEADER.unpack_from(payload)
    rest = HEADER.size + 4 * flag
    if rest > len(payload):
        raise Problem(f"record {number} of {path} is shorter than its labels: fetch it again")
    if flag:
        label = struct.unpack_from("<f", payload, HEADER.size)[0]
    if len(payload) == rest:
        return 0, b""
    if not 0 <= label < 10**7 or label != int(label):
        raise Problem(f"record {number} of {path} has the label {label}, not a person's number: fetch it again")
    return int(label), payload[rest:]


def compare(path, seen, records):
    """With the index and the property file beside, where they are there."""
    if not seen:
        raise Problem(f"{path} holds no photos: fetch it again")
    index, about = path.with_suffix(".idx"), path.with_name("property")
    if index.exists():
        lines = sum(1 for line in index.read_text().splitlines() if line.strip())
        if lines != records:
            raise Problem(f"{path} holds {records:,} records, {index.name} names {lines:,}: fetch them again")
    if about.exists():
        people = about.read_text().split(",")[0].strip()
        if people.isdigit() and int(people) != len(seen):
            raise Problem(f"{path} holds {len(seen):,} people, {about.name} says {people}: fetch it again")
