"""The peers' side of scripts/bench: each case as a peer computes it, forward and backward, on our inputs.

LSEP is the broadcast form that circulates, in its correct version. Run by bench.py as `python peers.py FOLDER NAME time|once`, in an environment with torch and pytorch-metric-learning.
Prints one JSON line: median seconds of a step, or memory above what was there before; `once` writes loss and gradient.
"""

import json
import statistics
import sys
import time

import torch
from safetensors.torch import load_file, save_file


def miner_and_loss(kind):
    from pytorch_metric_learning import distances, losses, miners, reducers

    euclidean = distances.LpDistance(normalize_embeddings=False)
    # Every triplet, or those of a miner; our mean over all terms, or over those above 0.
    if kind == "batch-hard":
        loss = losses.TripletMarginLoss(0.2, distance=euclidean, reducer=reducers.MeanReducer())
        return miners.BatchHardMiner(distance=euclidean), loss
    if kind == "batch-all":
        return None, losses.TripletMarginLoss(0.2, distance=euclidean, reducer=reducers.AvgNonZeroReducer())
    if kind == "batch-all-soft":
        loss = losses.TripletMarginLoss(0.0, smooth_loss=True, distance=euclidean, reducer=reducers.MeanReducer())
        return None, loss
    if kind == "semi-hard":
        squared = distances.LpDistance(normalize_embeddings=False, power=2)
        loss = losses.TripletMarginLoss(0.2, distance=squared, reducer=reducers.AvgNonZeroReducer())
        return miners.TripletMarginMiner(0.2, distance=squared, type_of_triplets="semihard"), loss
    if kind == "lsep":
        return None, broadcast_lsep
    raise SystemExit(f"no peer for {kind}")


def broadcast_lsep(scores, labels, _):
    """log(1 + sum exp(f_u - f_v)) over all pairs of a label v that an image has and a label u that it has not."""
    differences = scores[:, None, :] - scores[:, :, None]
    pairs = (labels[:, None, :] < labels[:, :, None]).to(scores.dtype)
    return (differences.exp() * pairs).sum((1, 2)).log1p().mean()


def step(peer, x, labels):
    miner, loss = peer
    x = x.detach().requires_grad_()
    value = loss(x, labels, miner(x.detach(), labels) if miner else None)
    value.backward()
    return value.detach(), x.grad


def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def main():
    folder, name, what = sys.argv[1:4]
    case = next(case for case in json.load(open(f"{folder}/cases.json")) if case["name"] == name)
    torch.set_num_threads(case.get("threads", 1))
    tensors = load_file(f"{folder}/{name}.safetensors")
    x, labels = tensors["x"], tensors["labels"]
    peer = miner_and_loss(case["kind"])
    few = min(16, len(x))
    step(peer, x[:few], labels[:few])  # first use
    if what == "once":
        open("/proc/self/clear_refs", "w").write("5")
        before = status("VmRSS")
        value, gradient = step(peer, x, labels)
        rise = status("VmHWM") - before
        save_file({"loss": value, "gradient": gradient}, f"{folder}/{name}.peer.safetensors")
        print(json.dumps({"memory_kib": rise}))
        return
    times, spent = [], 0.0
    # A slow case once; a fast one for a second or more.
    while not times or (spent < 1.5 and len(times) < 2000):
        start = time.perf_counter()
        step(peer, x, labels)
        times.append(time.perf_counter() - start)
        spent += times[-1]
    print(json.dumps({"seconds": statistics.median(times), "runs": len(times)}))


main()
