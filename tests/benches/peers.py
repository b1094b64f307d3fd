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

import gpu
from peers_work import measured


def miner_and_loss(kind):
    return (None, broadcast_lsep) if kind == "lsep" else gpu.metric_learning(kind)


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
        found = measured(1, lambda: step(peer, x, labels))
        value, gradient = found["found"]
        save_file({"loss": value, "gradient": gradient}, f"{folder}/{name}.peer.safetensors")
        print(json.dumps({"memory_kib": found["memory_kib"]}))
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
