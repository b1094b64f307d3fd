"""The longer jobs of scripts/bench: evaluation, images, training steps, the optimiser, and how costs grow.

Each job is a process a side on the same inputs. A goal is a ratio, time of the peer over ours unless it says otherwise.
"""

import math
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

# Market-1501's: queries, gallery without junk, people, cameras, distractors.
QUERIES, GALLERY, PEOPLE, CAMERAS, DISTRACTORS, WIDTH = 3368, 15913, 750, 6, 2798, 128

# name, our job, the peer's job, the goal for peer over ours, rounds of each side, threads of ours and of the peer,
# whether the peer takes minutes. peer:NAME is the peer's job in our place.
JOBS = [
    ("retrieval, Market size, against the bare matrix product", "retrieval", "product", 1 / 2.5, 3, 1, 1, False),
    ("the same, two threads against our one", "retrieval", "retrieval@1", 1.8, 3, 2, 1, False),
    # What the machine lets a second thread do.
    ("the bare matrix product, two threads against one", "peer:product", "product", None, 3, 2, 1, False),
    ("retrieval, Market size, against torchreid's Python, ten times a tenth", "retrieval", "retrieval", None, 3, 1, 1, True),
    ("retrieval, 519,732 in the gallery, a row against Market's", "retrieval-500k", "retrieval@1", None, 1, 1, 1, True),
    ("re-ranking, Market size, against torchreid", "rerank", "rerank", 10.0, 1, 1, 1, True),
    ("LFW folds and VAL, against the sweep", "lfw", "lfw", 100.0, 3, 1, 1, False),
    ("images of 128x64, against torchvision", "images-128x64", "images-128x64", 1.5, 3, 1, 1, False),
    ("images of 250x250, against torchvision", "images-250x250", "images-250x250", 1.5, 3, 1, 1, False),
    ("images of 250x250, two threads against our one", "images-250x250", "images-250x250@1", None, 3, 2, 1, False),
    *[(f"images of {size} to {goes} pixels, against torchvision", f"images-{size}-{goes}", f"images-{size}-{goes}", 2.0, 3, 1, 1, False)
      for size, goes in (("375x500", 224), ("480x640", 224), ("350x350", 160), ("1080x1920", 224))],
    *[row for title, name in (("TriNet", "trinet"), ("LuNet", "lunet"), ("Inception-ResNet-v1", "inception-resnet-v1"), ("VGG16", "vgg16"))
      for row in ((f"{title} step, against eager", f"step-{name}", f"step-{name}", 1.5, 3, 1, 1, False),
                  (f"{title} step, against eager in channels_last", f"step-{name}", f"step-{name}-last", 1.0, 3, 1, 1, False),
                  (f"{title} step, against torch.compile", f"step-{name}", f"step-{name}-compile", 1.2, 3, 1, 1, True),
                  (f"{title} step, two threads against our one", f"step-{name}", f"step-{name}@1", 1.9, 3, 2, 1, False),
                  (f"{title} step on two threads, against eager", f"step-{name}", f"step-{name}", 1.5, 3, 2, 2, False),
                  (f"{title} step on two threads, against torch.compile", f"step-{name}", f"step-{name}-compile", 1.2, 3, 2, 2, True),
                  (f"{title} step in bf16, against eager", f"step-{name}-bf16", f"step-{name}", 2.0, 3, 1, 1, False))],
    *[row for title, name in (("TriNet", "trinet"), ("Inception-ResNet-v1", "inception-resnet-v1"), ("NN2", "nn2"), ("VGG16 to fc7", "vgg16"))
      for row in ((f"embedding by {title}, against torch.compile with freezing", f"embed-{name}", f"embed-{name}-compile", 1.15, 3, 1, 1, True),
                  (f"embedding by {title}, against torch.jit frozen", f"embed-{name}", f"embed-{name}-frozen", None, 3, 1, 1, True),
                  (f"embedding by {title}, against eager in channels_last", f"embed-{name}", f"embed-{name}-last", 1.8, 3, 1, 1, False),
                  (f"embedding by {title}, two threads against our one", f"embed-{name}", f"embed-{name}@1", 1.9, 3, 2, 1, False),
                  (f"embedding by {title} on two threads, against torch.compile with freezing", f"embed-{name}", f"embed-{name}-compile", 1.15, 3, 2, 2, True),
                  (f"embedding by {title} on two threads, against eager in channels_last", f"embed-{name}", f"embed-{name}-last", 1.8, 3, 2, 2, False),
                  (f"embedding by {title} in bf16, against our f32", f"embed-{name}-bf16", f"embed-{name}@1", 1.8, 3, 1, 1, False))],
    *[(f"{loss}, {rows:,} rows, against its bare matrix products", f"blocks-{loss}-{rows}", f"products-{'hard' if loss == 'batch-hard' else 'all'}-{rows}", 1 / 1.5, 1, 2, 2, rows > 20_000)
      for rows in (16_384, 65_536) for loss in ("batch-hard", "batch-all", "semi-hard", "lifted")],
    ("Adam on TriNet, against eager's default", "adam", "adam", 1.0, 31, 1, 1, False),
    ("Adam on TriNet, against eager's fused", "adam", "adam-fused", 1.0, 31, 1, 1, False),
]


# Most that ours may take, MiB, or as a share of the peer's.
MEMORY = {"retrieval": 100, "rerank": 0.1,
          **{f"blocks-{loss}-{rows}": 2048 for loss in ("batch-hard", "batch-all", "semi-hard", "lifted") for rows in (16_384, 65_536)}}


def write_inputs(folder):
    generator = torch.Generator().manual_seed(20171122)
    centres = torch.randn(PEOPLE, WIDTH, generator=generator)
    q_person = torch.randint(PEOPLE, (QUERIES,), generator=generator) + 1
    g_person = torch.cat([torch.randint(PEOPLE, (GALLERY - DISTRACTORS,), generator=generator) + 1,
                          torch.zeros(DISTRACTORS, dtype=torch.int64)])

    def rows(person):
        spread = 1.5 * torch.randn(len(person), WIDTH, generator=generator)
        return torch.where((person > 0)[:, None], centres[(person - 1).clamp(min=0)], 0) + spread

    camera = lambda n: torch.randint(CAMERAS, (n,), generator=generator) + 1
    save_file({
        "q": rows(q_person), "g": rows(g_person), "q_person": q_person, "g_person": g_person,
        "q_camera": camera(QUERIES), "g_camera": camera(GALLERY),
    }, f"{folder}/retrieval.safetensors")
    same = (torch.arange(6000) // 300 % 2 == 0).long()
    dist = torch.where(same == 1, 0.9, 1.7) + 0.25 * torch.randn(6000, generator=generator)
    save_file({"dist": dist.clamp(0, 4).double(), "same": same}, f"{folder}/lfw.safetensors")
    from PIL import Image
    random = np.random.default_rng(5)
    # MARS's and LFW's, VOC's and COCO's, VGGFace2's, a film's.
    for size in [(128, 64), (250, 250), (375, 500), (480, 640), (350, 350), (1080, 1920)]:
        at = folder / "jpegs" / f"{size[0]}x{size[1]}"
        at.mkdir(parents=True, exist_ok=True)
        for i in range(300 if size[0] < 1000 else 30):
            # Smooth shapes with some grain, about as many bytes as photographs of the size.
            small = random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((size[1], size[0]), Image.BICUBIC)
            grain = random.normal(0, 6, (*size, 3))
            image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
            image.save(at / f"{i:03}.jpg", quality=80)


def all(args, run_job):
    jobs = [job for job in JOBS if args.only in job[1] + job[0] and not (args.quick and job[7])]
    growing = args.only in "growth"
    if jobs or growing or args.only in "loader":
        write_inputs(args.folder)
    script = str(pathlib.Path(__file__).with_name("peers_work.py"))
    known = {}

    def side(ours, job, rounds, threads):
        """A job is measured once, however many rows it stands in."""
        key = (ours, job, threads)
        if key not in known:
            print(f"bench: {'ours' if ours else 'peer'}, {job}, {threads} thread(s)", file=sys.stderr, flush=True)
            command = [args.work, job, str(rounds)] if ours else [sys.executable, script, str(args.folder), job, str(rounds)]
            known[key] = run_job(command, threads)
        return known[key]

    without = False
    words = set(pathlib.Path("/proc/cpuinfo").read_text().split()) if pathlib.Path("/proc/cpuinfo").exists() else set()
    if "flags" in words and not words & {"avx512_bf16", "amx_bf16"}:
        print("bench: this processor has no bfloat16 instructions: the rows of bf16 are left out", file=sys.stderr, flush=True)
        without = True
    rows = []
    for name, mine, theirs, goal, rounds, our_threads, their_threads, _ in jobs:
        if without and "bf16" in mine:
            rows.append({"job": name, "goal": goal, "not_run": "no bfloat16 instructions here"})
            continue
        a = side(not mine.startswith("peer:"), mine.removeprefix("peer:"), rounds, our_threads)
        # NAME@1 is our own job on one thread.
        b = side(True, theirs[:-2], rounds, 1) if theirs.endswith("@1") else side(False, theirs, rounds, their_threads)
        row = {"job": name, "ours_s": a["seconds"], "other_s": b["seconds"], "ratio": b["seconds"] / a["seconds"],
               "goal": goal, "ours_mib": a["memory_kib"] / 1024, "other_mib": b["memory_kib"] / 1024,
               "found": a["found"], "other_found": b["found"], "most_mib": MEMORY.get(mine)}
        if mine == "rerank":
            row["most_mib"] *= row["other_mib"]
        if mine == theirs == "retrieval":
            row["other_mib"] = None  # a tenth of the queries takes less than all would
        if mine == "retrieval-500k":
            # Time a gallery row, large over small: 1 is linear.
            row["ratio"] = (b["seconds"] / GALLERY) / (a["seconds"] / (GALLERY + 503_819))
        agree(args.folder, mine, theirs, row)
        rows.append(row)
    growth = {}
    if growing:
        print("bench: growth", file=sys.stderr, flush=True)
        for name, sizes in run_job([args.work, "growth"], args.threads).items():
            # A process a size: memory that a smaller one freed would hide what a larger one takes.
            points = [{"size": size, **run_job([args.work, "growth", name, str(size)], args.threads)} for size in sizes]
            growth[name] = {"points": points, "time_exponent": exponent(points, "seconds"), "memory_exponent": exponent(points, "mib")}
    return rows, growth


def agree(folder, mine, theirs, row):
    """No ratio of unequal things: where the two sides differ, the row says so and has none."""
    differs = None
    a, b = row["found"], row["other_found"]
    if mine == "retrieval" and theirs == "retrieval@1" and a != b:
        differs = "retrieval on two threads differs from one's"
    if mine.startswith("step-") and a["parameters"] != b["parameters"]:
        differs = f"{mine}: {a['parameters']} parameters, the peer's {b['parameters']}"
    if mine == theirs == "retrieval":
        gap = max(abs(a["tenth"][key] - b[key]) for key in ("mAP", "rank1"))
        if gap > 1e-5:
            differs = f"retrieval differs from torchreid's by {gap:.1e}"
        row["gap"] = gap
    if mine == "rerank":
        d = [load_file(f"{folder}/rerank.{side}.safetensors")["d"] for side in ("ours", "peer")]
        # A neighbour whose distance ties with another's within rounding changes a few cells; the rest are equal.
        row["gap"] = float((d[0] - d[1]).abs().median())
        row["cells_off"] = float(((d[0] - d[1]).abs() > 1e-3).double().mean())
        if row["gap"] > 1e-5 or row["cells_off"] > 0.01:
            differs = f"re-ranking differs from torchreid's: {row['gap']:.1e}, {row['cells_off']:.1e} of the cells"
    if mine == "lfw":
        row["gap"] = abs(a["accuracy"] - b["accuracy"])
        # VAL's rules differ: an order statistic here, a grid there.
        if row["gap"] > 1e-9 or abs(a["val"] - b["val"]) > 5e-3:
            differs = f"LFW differs from the sweep: {a} and {b}"
    if differs:
        print(f"bench: {differs}: no ratio of unequal things", file=sys.stderr, flush=True)
        row.update(ratio=math.nan, differs=differs)


def exponent(points, key):
    """The slope of log cost over log size by least squares, without the smallest size, where the fixed cost shows. Of
    memory below 4 MiB nothing is said: an allocator's own steps are as large."""
    used = [(math.log(p["size"]), math.log(p[key])) for p in points[1:] if p[key] > (4 if key == "mib" else 0)]
    if len(used) < 2:
        return None
    return float(np.polyfit(*zip(*used), 1)[0])


def show(rows, growth):
    if rows:
        print(f"\n{'job':<70} {'ours s':>9} {'other s':>9} {'ratio':>8} {'goal':>7}  {'ours MiB':>8} {'other MiB':>9} {'other first s':>13}")
    for row in rows:
        if row.get("not_run"):
            print(f"{row['job']:<70} not run: {row['not_run']}")
            continue
        goal = "" if row["goal"] is None else f"{row['goal']:.2f}"
        first = row["other_found"].get("first_s") if isinstance(row["other_found"], dict) else None
        print(f"{row['job']:<70} {row['ours_s']:>9.4f} {row['other_s']:>9.4f} {row['ratio']:>8.2f} {goal:>7}  "
              f"{row['ours_mib']:>8.0f} {'' if row['other_mib'] is None else format(row['other_mib'], '.0f'):>9} {'' if first is None else format(first, '.1f'):>13}")
    if growth:
        print(f"\n{'cost as work grows (size: ms, MiB)':<54} {'time ~ n^':>9} {'memory ~ n^':>11}  points")
    for name, found in growth.items():
        number = lambda x: "–" if x is None else f"{x:.2f}"
        points = ", ".join(f"{p['size']}: {1e3 * p['seconds']:.1f}, {p['mib']:.0f}" for p in found["points"])
        print(f"{name:<54} {number(found['time_exponent']):>9} {number(found['memory_exponent']):>11}  {points}")
