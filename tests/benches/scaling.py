"""How training scales over processes: what is measured on this machine, and what arithmetic predicts for GPUs.

    python tests/benches/scaling.py measure [--binary target/release/facenet] [--threads 1]
    python tests/benches/scaling.py losses --work target/release/deps/work-... [--threads 1] [--rows 8192,16384]
    python tests/benches/scaling.py evaluation --work target/release/deps/work-... [--threads 1]
    python tests/benches/scaling.py predict [--rate IMAGES_PER_SECOND]

`losses` measures losses of many rows whose anchors 1, 2 and 4 processes share, `evaluation` parts of evaluations. `measure` trains facenet's small network on drawn faces as 1, 2 and 4 processes on 127.0.0.1 and prints step times and the bytes
that crossed the loopback device beside those that the formula gives. `predict` prints the tables of papers/scaling.md.
"""

import argparse
import json
import math
import os
import pathlib
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


def by_all(work, job, rounds, threads):
    """For 1, 2 and 4 processes the cells of a row: how many, seconds of the slowest, against one, memory of the largest."""
    alone = None
    for processes in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            said = together([work, job, str(rounds)], processes, threads, {"RANKLE_BENCH": folder})
        found = [json.loads(out.splitlines()[-1]) for out in said]
        seconds, memory = max(of["seconds"] for of in found), max(of["memory_kib"] for of in found) / 1024
        alone = alone or seconds
        yield f"{processes} | {seconds:.2f} | {alone / seconds:.2f} | {memory:.0f} |"


def losses(args):
    print("| loss | rows | processes | s | against one | MiB a process above its inputs |\n|---|---|---|---|---|---|")
    for kind in ("batch-hard", "batch-all", "semi-hard", "lifted"):
        for rows in args.rows.split(","):
            for cells in by_all(args.work, f"blocks-{kind}-{rows}", 3, args.threads):
                print(f"| {kind} | {int(rows):,} | {cells}", flush=True)


def evaluation(args):
    print("| part | processes | s | against one | MiB a process above its inputs |\n|---|---|---|---|---|")
    for part, what in PARTS.items():
        for cells in by_all(args.work, f"judge-{part}", 1, args.threads):
            print(f"| {what} | {cells}", flush=True)


# ---- predicted ------------------------------------------------------------------------------------------------------


def step_bytes(weights, batch, width, processes):
    """Bytes that each process sends a step: rings over the gradients of weights and of embeddings, a gather of the embeddings; all f32."""
    if processes == 1:
        return 0.0
    ring = 2 * (processes - 1) / processes * 4 * (weights + batch * width)
    gather = (processes - 1) / processes * 4 * batch * width
    return ring + gather


# Assumed, not measured here: what a machine of eight H100s is sold with. `rate` is images/s of forward and backward on one GPU.
NODE = 8
WITHIN, BETWEEN = 300e9, 45e9  # bytes/s a GPU: NVLink's and a 400 Gb/s adapter's, less a tenth and a half of protocol
LATENCY = 8e-6  # s a hop of a collective
MEMORY_SPEED = 2.6e12  # bytes/s that a memory-bound kernel reaches
PRODUCT = 50e12  # f32 operations/s of the distance products without TF32
# Bytes of live tensors and passes over memory that the semi-hard loss needs an entry of the [B, B] matrix: distances, sorted
# values with their int64 order, three int64 tables of bisection, masks, weights (counted in src/mining/triplets.rs and
# src/losses/triplet.rs).
LIVE, TRAFFIC = 50, 260
AT_ONCE = 1 << 24  # numbers of a block of the matrix: src/losses/cpu/mod.rs


def loss_seconds(batch, width, gpus):
    return ((TRAFFIC * batch**2) / MEMORY_SPEED + 3 * 2 * batch**2 * width / PRODUCT) / gpus


def predicted(weights, width, batch, rate, gpus):
    share = batch / gpus
    network = share / rate
    backward = network * 2 / 3
    speed = WITHIN if gpus <= NODE else BETWEEN
    hops = LATENCY * math.log2(max(gpus, 2)) if gpus > 1 else 0.0
    ring = 2 * (gpus - 1) / gpus * 4 * weights / speed + hops if gpus > 1 else 0.0
    # Of the embeddings, and the ring over their gradients.
    gather = 3 * (gpus - 1) / gpus * 4 * batch * width / speed + 2 * hops if gpus > 1 else 0.0
    # The last bucket of 25 MiB (or all there is) cannot hide behind the pass that made it.
    tail = ring * min(1, 25 * 2**20 / (4 * weights)) if gpus > 1 else 0.0
    hidden = max(ring - tail - backward, 0.0)
    loss = loss_seconds(batch, width, gpus)
    return {"network": network, "gather": gather, "loss": loss, "exposed": hidden + tail,
            "step": network + gather + loss + hidden + tail}


def predict(args):
    weights, width = 7_472_144, 128
    for batch in (1800, 65_536, 262_144):
        alone = predicted(weights, width, batch, args.rate, 1)["step"]
        print(f"\n#### NN2, {batch:,} images a batch, {args.rate:g} images/s a GPU assumed\n")
        print("| GPUs | images each | network, ms | embeddings and their gradients, ms | loss, ms | gradients not hidden, ms | step, ms | speed-up | efficiency | MB sent a GPU | loss's matrices, GB each |\n|---|---|---|---|---|---|---|---|---|---|---|")
        for gpus in (1, 8, 64, 512, 4096):
            if batch < gpus:
                continue
            t = predicted(weights, width, batch, args.rate, gpus)
            matrix = LIVE * min(batch**2 / gpus, max(AT_ONCE, batch))
            print(f"| {gpus} | {batch / gpus:.1f} | {1e3 * t['network']:.1f} | {1e3 * t['gather']:.3f} | {1e3 * t['loss']:.1f} | {1e3 * t['exposed']:.2f} | {1e3 * t['step']:.1f} "
                  f"| {alone / t['step']:.1f} | {100 * alone / t['step'] / gpus:.0f} % | {step_bytes(weights, batch, width, gpus) / 1e6:.1f} | {matrix / 1e9:.2f} |")


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--binary", default="target/release/facenet")
    measuring.add_argument("--threads", type=int, default=1)
    of_losses = verbs.add_parser("losses")
    of_losses.add_argument("--work", required=True, help="the benchmark's binary, as scripts/bench builds it")
    of_losses.add_argument("--threads", type=int, default=1)
    of_losses.add_argument("--rows", default="8192,16384")
    of_parts = verbs.add_parser("evaluation")
    of_parts.add_argument("--work", required=True, help="as above")
    of_parts.add_argument("--threads", type=int, default=1)
    predicting = verbs.add_parser("predict")
    predicting.add_argument("--rate", type=float, default=1000.0, help="images/s that one GPU trains on")
    args = parser.parse_args()
    {"measure": measure, "losses": losses, "evaluation": evaluation, "predict": predict}[args.verb](args)


main()
