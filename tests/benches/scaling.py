"""How training scales over processes: what is measured on this machine, and what arithmetic predicts for GPUs.

    python tests/benches/scaling.py measure [--binary target/release/facenet] [--threads 1]
    python tests/benches/scaling.py losses [--threads 1] [--rows 8192,16384] [--json FILE] [--work BINARY]
    python tests/benches/scaling.py evaluation [--threads 1] [--json FILE] [--work BINARY]
    python tests/benches/scaling.py predict [--rate IMAGES_PER_SECOND]

`losses` measures losses of many rows whose anchors 1, 2 and 4 processes share, `evaluation` parts of evaluations: of the
newest target/release/deps/work-*, which `cargo bench --bench work --no-run` builds, or of --work. `--json` writes the rows
too; both verbs may share a file. `measure` trains facenet's small network on drawn faces as 1, 2 and 4 processes on 127.0.0.1 and prints step times and the bytes
that crossed the loopback device beside those that the formula gives. `predict` prints the tables of papers/scaling.md.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import socket
import subprocess
import tempfile

# ---- measured -------------------------------------------------------------------------------------------------------

STEPS, BATCH, WIDTH = 12, 128, 128
# What tests/benches/shared.rs has.
PARTS = {
    "re-ranking": "re-ranking, 3,368 x 15,913 x 128",
    "streamed": "retrieval from a file, 256 x 519,732 x 2,048",
    "all-pairs": "all pairs of 13,233 x 128",
    "recognition": "recognition, 20,000 among 10,000 x 128",
    "k-means": "1,500 means of 9,000 x 128",
    "linkage": "average linkage, 4,200 x 4,096",
}


def loopback_bytes():
    for line in open("/proc/net/dev"):
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[0])
    return 0


def together(words, processes, threads, more=None):
    """What each of so many processes printed; they meet on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), **(more or {})}
        if processes > 1:
            env |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        children.append(subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [child.communicate() for child in children]
    for child, (_, wrong) in zip(children, said):
        if child.returncode:
            raise SystemExit(f"scaling: {' '.join(words)} failed: {wrong.strip()[-500:]}")
    return [out for out, _ in said]


def train(binary, processes, threads, folder):
    run = pathlib.Path(folder) / f"of-{processes}"
    words = [binary, "train", "--data", "drawn", "--net", "small", "--run", str(run), "--device", "cpu", "--steps", str(STEPS),
             "--people", "32", "--faces", "4", "--chunk", str(BATCH), "--log-every", "2", "--workers", "1"]
    before = loopback_bytes()
    together(words, processes, threads)
    sent = loopback_bytes() - before
    lines = [json.loads(line) for line in open(run / "timing.jsonl")]
    rates = sorted(line["images_per_second"] for line in lines[1:])
    return BATCH / rates[len(rates) // 2], sent


def parameters_of(run):
    import struct
    data = open(run / "checkpoint.safetensors", "rb").read(8)
    length = struct.unpack("<Q", data)[0]
    header = json.loads(open(run / "checkpoint.safetensors", "rb").read(8 + length)[8:])
    return {name: math.prod(about["shape"]) for name, about in header.items() if name.startswith("model.") and "running" not in name}


def measure(args):
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for processes in (1, 2, 4):
            seconds, sent = train(args.binary, processes, args.threads, folder)
            rows.append((processes, seconds, sent))
        weights = sum(parameters_of(pathlib.Path(folder) / "of-1").values())
    start = 4 * weights  # the first process's weights, once to each other
    print(f"facenet's small network, {weights:,} parameters, batches of {BATCH}, {args.threads} thread(s) a process, {os.cpu_count()} cores\n")
    print("| processes | s a step | against one | MB a step over the loopback | by the formula |\n|---|---|---|---|---|")
    for processes, seconds, sent in rows:
        each = step_bytes(weights, BATCH, WIDTH, processes)
        measured = (sent - start * (processes - 1)) / STEPS / 1e6 if processes > 1 else 0.0
        print(f"| {processes} | {seconds:.3f} | {rows[0][1] / seconds:.2f} | {measured:.2f} | {processes * each / 1e6:.2f} |")


def newest():
    """The benchmark's newest binary, as scripts/bench finds it."""
    root = pathlib.Path(__file__).resolve().parents[2]
    found = [path for path in (root / "target/release/deps").glob("work-*") if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise SystemExit("scaling: no target/release/deps/work-*: type cargo bench --bench work --no-run, or name the binary with --work")
    return str(max(found, key=lambda path: path.stat().st_mtime))


def by_all(args, job, rounds):
    """Rows for 1, 2 and 4 processes: seconds of the slowest, against one, memory of the largest."""
    alone = None
    for processes in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            said = together([args.work, job, str(rounds)], processes, args.threads, {"RANKLE_BENCH": folder})
        found = [json.loads(out.splitlines()[-1]) for out in said]
        seconds, memory = max(of["seconds"] for of in found), max(of["memory_kib"] for of in found) / 1024
        alone = alone or seconds
        yield {"processes": processes, "seconds": seconds, "against_one": alone / seconds, "mib": memory}


def cells(row):
    return f"{row['processes']} | {row['seconds']:.2f} | {row['against_one']:.2f} | {row['mib']:.0f} |"


def keep(args, rows):
    """Writes the rows so far into the file of --json, beside those of the other verb."""
    if not args.json:
        return
    cpu = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    before = json.loads(args.json.read_text()) if args.json.exists() else {}
    about = {"date": datetime.date.today().isoformat(), "processor": names[0] if names else platform.processor(), "threads": args.threads}
    args.json.write_text(json.dumps({**before, **about, args.verb: rows}, indent=1) + "\n")


def losses(args):
    args.work, done = args.work or newest(), []
    print("| loss | rows | processes | s | against one | MiB a process above its inputs |\n|---|---|---|---|---|---|")
    for kind in ("batch-hard", "batch-all", "semi-hard", "lifted"):
        for rows in args.rows.split(","):
            for row in by_all(args, f"blocks-{kind}-{rows}", 3):
                print(f"| {kind} | {int(rows):,} | {cells(row)}", flush=True)
                done.append({"loss": kind, "rows": int(rows), **row})
                keep(args, done)


def evaluation(args):
    args.work, done = args.work or newest(), []
    print("| part | processes | s | against one | MiB a process above its inputs |\n|---|---|---|---|---|")
    for part, what in PARTS.items():
        for row in by_all(args, f"judge-{part}", 1):
            print(f"| {what} | {cells(row)}", flush=True)
            done.append({"part": what, **row})
            keep(args, done)


# ---- predicted ------------------------------------------------------------------------------------------------------


def step_bytes(weights, batch, width, processes):
    """Bytes that each process sends a step: rings over the gradients of weights and of embeddings, a gather of the embeddings; all f32."""
    if processes == 1:
        return 0.0
    ring = 2 * (processes - 1) / processes * 4 * (weights + batch * width)
    gather = (processes - 1) / processes * 4 * batch * width
    return ring + gather


# Assumed, not measured: what a machine of eight H100s is sold with.
NODE = 8
WITHIN, BETWEEN = 300e9, 45e9  # bytes/s a GPU: NVLink's and a 400 Gb/s adapter's, less a tenth and a half of protocol
LATENCY = 8e-6  # s a hop of a collective
# Measured on one H200 (tests/benches/results): images/s of NN2's training in bf16 as one graph, in batches of 200; seconds an
# entry of the [B, B] matrix of the semi-hard loss, from 16.7 ms at 8,192 rows, and what its launches take at least, however
# small the share; bytes of live tensors an entry, from 3,305 MiB. The loss is of the code before it went by blocks.
RATE = 4478.0
ENTRY, LAUNCHES = 16.7e-3 / 8192**2, 1.5e-3
LIVE = 51
AT_ONCE = 1 << 24  # numbers of a block of the matrix: src/losses/cpu/mod.rs
BUCKET = 25 * 2**20  # bytes of gradients that travel together


def predicted(weights, width, batch, rate, gpus, ring=False):
    """Seconds of a step's parts. A gather has so many hops, a sum twice as many: log2 N in a tree, N - 1 in a ring."""
    network = batch / gpus / rate
    loss = max(ENTRY * batch**2 / gpus, LAUNCHES)
    if gpus == 1:
        return {"network": network, "gather": 0.0, "loss": loss, "exposed": 0.0, "step": network + loss}
    speed = WITHIN if gpus <= NODE else BETWEEN
    hops = LATENCY * (gpus - 1 if ring else math.log2(gpus))
    # Of the embeddings, and the sum of their gradients.
    gather = 3 * (gpus - 1) / gpus * 4 * batch * width / speed + 3 * hops
    # The last bucket (or all there is) cannot hide behind the pass that made it; the others hide behind the backward pass.
    buckets = max(4 * weights / BUCKET, 1)
    bucket = 2 * (gpus - 1) / gpus * 4 * weights / buckets / speed
    others = bucket * (buckets - 1) + 2 * hops * (math.ceil(buckets) - 1)
    exposed = bucket + 2 * hops + max(others - network * 2 / 3, 0.0)
    return {"network": network, "gather": gather, "loss": loss, "exposed": exposed, "step": network + gather + loss + exposed}


def predict(args):
    weights, width = 7_472_144, 128
    for batch in (1800, 65_536, 262_144):
        alone = predicted(weights, width, batch, args.rate, 1)["step"]
        print(f"\n### NN2, {batch:,} images a batch, {args.rate:,g} images/s a GPU\n")
        print("| GPUs | images each | network, ms | embeddings and their gradients, ms | loss, ms | gradients not hidden, ms | step, ms | speed-up | efficiency | step by rings, ms | MB sent a GPU | loss's matrices, GB each |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
        for gpus in (1, 8, 64, 512, 4096):
            if batch < gpus:
                continue
            t = predicted(weights, width, batch, args.rate, gpus)
            rings = predicted(weights, width, batch, args.rate, gpus, ring=True)["step"]
            matrix = LIVE * min(batch**2 / gpus, max(AT_ONCE, batch))
            print(f"| {gpus} | {batch / gpus:.1f} | {1e3 * t['network']:.1f} | {1e3 * t['gather']:.2f} | {1e3 * t['loss']:.1f} | {1e3 * t['exposed']:.2f} | {1e3 * t['step']:.1f} "
                  f"| {alone / t['step']:.1f} | {100 * alone / t['step'] / gpus:.0f} % | {1e3 * rings:.1f} | {step_bytes(weights, batch, width, gpus) / 1e6:.1f} | {matrix / 1e9:.2f} |")


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--binary", default="target/release/facenet")
    measuring.add_argument("--threads", type=int, default=1)
    for verb in ("losses", "evaluation"):
        shared = verbs.add_parser(verb)
        shared.add_argument("--work", help="the benchmark's binary (default: the newest target/release/deps/work-*)")
        shared.add_argument("--threads", type=int, default=1)
        shared.add_argument("--json", type=pathlib.Path, help="a file that takes the rows too")
        if verb == "losses":
            shared.add_argument("--rows", default="8192,16384")
    predicting = verbs.add_parser("predict")
    predicting.add_argument("--rate", type=float, default=RATE, help="images/s that one GPU trains on")
    args = parser.parse_args()
    {"measure": measure, "losses": losses, "evaluation": evaluation, "predict": predict}[args.verb](args)


main()
