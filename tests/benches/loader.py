"""The loader's share of a training step in scripts/bench: triplet-reid trains on JPEGs, and its own timing.jsonl says how
long the loop waited for images. No peer: the goal is that it doesn't wait.
"""

import json
import os
import shutil
import subprocess
import sys

# name, flags: the paper's LuNet and batch, and a network of 1/64 the work, whose steps a loader has to keep up with.
RUNS = [
    ("LuNet, 18 x 4", ["--t1", "5"]),
    ("LuNet with 1/8 of the channels, 18 x 4", ["--t1", "40", "--shrink", "8"]),
]


def lay_out(folder):
    """The benchmark's 128x64 JPEGs as Market-1501 has them: 60 people to train on with five photos each."""
    at = folder / "market"
    shutil.rmtree(at, ignore_errors=True)
    for part in ("bounding_box_train", "bounding_box_test", "query"):
        (at / part).mkdir(parents=True)
    for i, photo in enumerate(sorted((folder / "jpegs" / "128x64").iterdir())):
        person, number = divmod(i, 5)
        name = f"{person + 1:04}_c{number + 1}s1_{i:06}_00.jpg"
        shutil.copyfile(photo, at / "bounding_box_train" / name)
        if person < 2:
            part = "query" if number == 0 else "bounding_box_test"
            shutil.copyfile(photo, at / part / f"{person + 1001:04}_c{number + 1}s1_{i:06}_00.jpg")


def all(args, run_job):
    lay_out(args.folder)
    threads = os.cpu_count()
    print("bench: loader", file=sys.stderr, flush=True)
    alone = run_job([args.work, "loader", "3"], threads)
    rate = alone["found"]["images"] / alone["seconds"]
    rows = []
    for name, flags in RUNS:
        run = args.folder / "loader-run"
        shutil.rmtree(run, ignore_errors=True)
        command = [args.reid, "train", "--net", "lunet", "--data", args.folder / "market", "--run", run, "--log-every", "1",
                   "--device", "cpu", "--t0", "1", *flags]
        environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(map(str, command))} failed: {done.stderr.strip()[-2000:]}")
        lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
        # The first batch is waited for by everyone: there is nothing to do meanwhile.
        seconds = sum(72 / line["images_per_second"] for line in lines[1:])
        waited = lines[-1]["loader_wait_seconds"] - lines[0]["loader_wait_seconds"]
        rows.append({"run": name, "threads": threads, "steps": len(lines) - 1, "images_per_second": 72 * (len(lines) - 1) / seconds,
                     "waited_s": waited, "share": waited / seconds, "first_s": lines[0]["loader_wait_seconds"],
                     "loader_images_per_second": rate})
    shutil.rmtree(args.folder / "loader-run", ignore_errors=True)
    return rows


def show(rows):
    if rows:
        print(f"\n{'a step and its loader, JPEGs of 128x64, ' + str(rows[0]['threads']) + ' threads':<54} {'images/s':>9} {'waited s':>9} "
              f"{'share':>7} {'loader alone, images/s':>23}")
    for row in rows:
        print(f"{row['run']:<54} {row['images_per_second']:>9.1f} {row['waited_s']:>9.4f} {100 * row['share']:>6.2f}% "
              f"{row['loader_images_per_second']:>23.0f}")
