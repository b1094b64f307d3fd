"""scripts/bench: writes the inputs once, runs both sides on them, losses in turns, checks that they agree, prints ratios
and what misses its goal.

Losses are held against a float64 loop over anchors; the longer jobs (work.py) against each other. A ratio is the peer's
median over ours, both measured in this run with the same number of threads: above 1 we are faster. Takes the bench
binaries and the folder for inputs and results; see scripts/bench.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

import loader
import work

# name, kind, people, images of each, the goal for the ratio, and whether the peer computes the same number.
CASES = [
    ("batch-hard-128", "batch-hard", 32, 4, 2.5, True),
    ("batch-hard-512", "batch-hard", 128, 4, 4.0, True),
    ("batch-hard-1800", "batch-hard", 45, 40, 4.5, True),
    ("batch-all-72", "batch-all", 18, 4, 4.0, True),
    ("batch-all-128", "batch-all", 32, 4, 8.0, True),
    ("batch-all-256", "batch-all", 64, 4, 12.0, True),
    ("batch-all-512", "batch-all", 128, 4, 25.0, True),
    ("batch-all-soft-512", "batch-all-soft", 128, 4, 10.0, True),
    ("semi-hard-1800", "semi-hard", 45, 40, 100.0, False),
    ("batch-all-1800", "batch-all", 45, 40, 100.0, True),
    # Images and labels instead of people and images of each.
    ("lsep-64x81", "lsep", 64, 81, 14.0, True),
    ("lsep-64x1000", "lsep", 64, 1000, 1000.0, True),
]
WIDTH = 128
ROUNDS = 3
# Every semi-hard triplet and B³ triplets take the peer's gigabytes: one round of it.
HEAVY = {"semi-hard-1800", "batch-all-1800"}
# Most that ours may take, MiB.
MEMORY = {"batch-all-1800": 200, "semi-hard-1800": 150}


def write_inputs(folder, cases, threads):
    generator = torch.Generator().manual_seed(20171121)
    listed = []
    for name, kind, people, images, _, _ in cases:
        if kind == "lsep":
            x = 2 * torch.randn(people, images, generator=generator)
            # 3.5 labels an image, one at least.
            labels = (torch.rand(people, images, generator=generator) < 2.5 / images).long()
            labels[torch.arange(people), torch.randint(images, (people,), generator=generator)] = 1
            save_file({"x": x, "labels": labels}, f"{folder}/{name}.safetensors")
            listed.append({"name": name, "kind": kind, "threads": threads})
            continue
        centres = torch.randn(people, WIDTH, generator=generator).repeat_interleave(images, 0)
        x = centres + 1.5 * torch.randn(people * images, WIDTH, generator=generator)
        # FaceNet's rows are unit; the others about as long as a trained network's.
        x = torch.nn.functional.normalize(x) if kind == "semi-hard" else x / 8
        labels = torch.arange(people).repeat_interleave(images)
        save_file({"x": x.contiguous(), "labels": labels}, f"{folder}/{name}.safetensors")
        listed.append({"name": name, "kind": kind, "threads": threads})
    (folder / "cases.json").write_text(json.dumps(listed, indent=1))


def environment(folder, threads, more=None):
    # Rust's own thread pool too.
    return {**os.environ, "RANKLE_BENCH": str(folder), "OMP_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads), "CRITERION_HOME": str(folder / "criterion"), **(more or {})}


def ours(binary, folder, name, threads, once=False):
    if once:
        env = environment(folder, threads, {"RANKLE_BENCH_ONCE": name})
        return json.loads(run([binary], env).splitlines()[-1])
    env = environment(folder, threads)
    run([binary, "--bench", "--noplot", "--warm-up-time", "0.5", "--measurement-time", "2", "--sample-size", "10",
         f"^{name}$"], env)
    estimates = folder / "criterion" / name / "new" / "estimates.json"
    return {"seconds": json.loads(estimates.read_text())["median"]["point_estimate"] / 1e9}


def peer(folder, name, threads, once=False):
    script = pathlib.Path(__file__).with_name("peers.py")
    command = [sys.executable, str(script), str(folder), name, "once" if once else "time"]
    return json.loads(run(command, environment(folder, threads)).splitlines()[-1])


def run(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, command))} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def reference(kind, x, labels):
    """Loss and gradient in float64, anchor by anchor: slow, obviously right."""
    x = x.double().requires_grad_()
    if kind == "lsep":
        rows = []
        for scores, has in zip(x, labels == 1):
            rows.append((scores[~has][None, :] - scores[has][:, None]).exp().sum().log1p())
        value = torch.stack(rows).mean()
        return float(value), torch.autograd.grad(value, x)[0]
    total, terms, active = 0.0, 0, 0
    gradient = torch.zeros_like(x)
    for a in range(len(x)):
        squared = (x - x[a]).square().sum(1)
        # At distance 0 (an anchor and itself) a root has no slope; no triplet reads it.
        d = squared if kind == "semi-hard" else torch.where(squared > 0, squared, 1.0).sqrt()
        same = labels == labels[a]
        positive = same.clone()
        positive[a] = False
        d_ap, d_an = d[positive], d[~same]
        if len(d_ap) == 0 or len(d_an) == 0:
            continue
        if kind == "batch-hard":
            z = (0.2 + d_ap.max() - d_an.min()).relu()[None]
        elif kind == "batch-all":
            z = (0.2 + d_ap[:, None] - d_an[None, :]).relu().flatten()
        elif kind == "batch-all-soft":
            z = torch.nn.functional.softplus(d_ap[:, None] - d_an[None, :]).flatten()
        else:
            inside = (d_an[None, :] > d_ap[:, None]) & (d_an[None, :] < d_ap[:, None] + 0.2)
            nearest = torch.where(inside, d_an[None, :], torch.inf).min(1).values
            kept = nearest < torch.inf
            z = 0.2 + d_ap[kept] - nearest[kept]
        total, terms, active = total + float(z.detach().sum()), terms + len(z), active + int((z > 0).sum())
        if z.requires_grad and len(z):
            gradient += torch.autograd.grad(z.sum(), x)[0]
    count = active if kind == "batch-all" else terms
    return total / count, gradient / count


def errors(folder, name, kind, same):
    """How far ours and the peer's are from the reference, relative: the larger of loss and gradient. None for a peer
    whose loss is another."""
    tensors = load_file(f"{folder}/{name}.safetensors")
    value, gradient = reference(kind, tensors["x"], tensors["labels"])

    def error(side):
        got = load_file(f"{folder}/{name}.{side}.safetensors")
        loss = abs(float(got["loss"]) - value) / value
        gap = float((got["gradient"].double() - gradient).abs().max() / gradient.abs().max())
        # A triplet on the margin falls on one side or the other by rounding: a step of one part in the active ones.
        if loss > 1e-3 or gap > 2e-2:
            raise SystemExit(f"bench: {name}, {side}: loss off by {loss:.1e}, gradient by {gap:.1e}: no ratio of unequal things")
        return max(loss, gap)

    return error("ours"), error("peer") if same else None


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def losses(args):
    cases = [case for case in CASES if args.only in case[0] and not (args.quick and case[0] in HEAVY)]
    write_inputs(args.folder, cases, args.threads)
    rows = []
    for name, kind, people, images, goal, same in cases:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        mine, theirs = [], []
        # Once for memory and agreement, then the clock.
        memory = ours(args.losses, args.folder, name, args.threads, once=True)["memory_kib"] / 1024
        their_memory = peer(args.folder, name, args.threads, once=True)["memory_kib"] / 1024
        our_error, their_error = errors(args.folder, name, kind, same)
        for _ in range(1 if name in HEAVY else ROUNDS):
            mine.append(ours(args.losses, args.folder, name, args.threads)["seconds"])
            theirs.append(peer(args.folder, name, args.threads)["seconds"])
        a, b = statistics.median(mine), statistics.median(theirs)
        rows.append({
            "case": name, "batch": people * images, "ours_ms": 1e3 * a, "peer_ms": 1e3 * b, "ratio": b / a, "goal": goal,
            "ours_mib": memory, "peer_mib": their_memory, "most_mib": MEMORY.get(name),
            "our_error": our_error, "peer_error": their_error,
        })
    return rows


def show_losses(rows):
    if rows:
        print(f"\n{'loss, forward and backward':<26} {'ours ms':>9} {'peer ms':>10} {'ratio':>7} {'goal':>6}  {'ours MiB':>8} {'peer MiB':>9} {'our error':>10} {'peer error':>11}")
    for row in rows:
        theirs = "other terms" if row["peer_error"] is None else f"{row['peer_error']:.0e}"
        print(f"{row['case']:<26} {row['ours_ms']:>9.2f} {row['peer_ms']:>10.2f} {row['ratio']:>7.1f} {row['goal']:>6.1f}  "
              f"{row['ours_mib']:>8.0f} {row['peer_mib']:>9.0f} {row['our_error']:>10.0e} {theirs:>11}", flush=True)


def missed(rows):
    """Goals of time and memory that these rows do not meet, in words."""
    words = []
    for row in rows:
        name = row.get("case") or row["job"]
        if row.get("not_run"):
            continue
        if row.get("differs"):
            words.append(f"{name}: {row['differs']}")
            continue
        if row["goal"] is not None and not row["ratio"] >= row["goal"]:
            words.append(f"{name}: {row['ratio']:.2f} of {row['goal']:g}")
        if row.get("most_mib") is not None and row["ours_mib"] > row["most_mib"]:
            words.append(f"{name}: {row['ours_mib']:.0f} MiB of {row['most_mib']:.0f}")
    return words


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--losses", required=True, help="the bench binary of the losses")
    parser.add_argument("--work", required=True, help="the bench binary of the longer jobs")
    parser.add_argument("--reid", required=True, help="the binary triplet-reid")
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cases and jobs whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="leave out the peers' minutes and gigabytes")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    import pytorch_metric_learning
    import torchvision
    result = {
        "date": datetime.date.today().isoformat(), "processor": processor(), "threads": args.threads,
        "torch": torch.__version__,
        "peers": f"pytorch-metric-learning {pytorch_metric_learning.__version__}, torchvision {torchvision.__version__}, torchreid 0.2.5",
        "losses": losses(args),
    }
    print(f"{result['processor']}, {args.threads} thread(s), torch {result['torch']}; peers: {result['peers']}; {result['date']}")
    show_losses(result["losses"])
    out = args.folder / "results.json"
    out.write_text(json.dumps(result, indent=1))
    run_job = lambda command, threads: json.loads(run(command, environment(args.folder, threads)).splitlines()[-1])
    result["work"], result["growth"] = work.all(args, run_job)
    result["loader"] = loader.all(args, run_job) if args.only in "loader" else []
    out.write_text(json.dumps(result, indent=1))
    work.show(result["work"], result["growth"])
    loader.show(result["loader"])
    result["missed"] = missed(result["losses"] + result["work"])
    print("\nmissed: " + ("; ".join(result["missed"]) or "nothing"))
    out.write_text(json.dumps(result, indent=1))
    print(f"\nresults: {out}")


main()
