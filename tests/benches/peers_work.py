"""The peers' side of the longer jobs of scripts/bench, on the inputs that ours gets.

Run by bench.py as `python peers_work.py FOLDER JOB ROUNDS`; prints one JSON line as tests/benches/work.rs does. The number of
threads is OMP_NUM_THREADS.
"""

import importlib.util
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from nets import trinet


def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def measured(rounds, work):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    seconds, memory, found = [], 0, None
    for number in range(rounds):
        start = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - start)
        if number == 0:
            memory = status("VmHWM") - before
    return {"seconds": sorted(seconds)[len(seconds) // 2], "memory_kib": memory, "found": found}


def torchreid(module):
    """A module of torchreid alone: its package imports far more than it needs."""
    root = next(p for p in map(pathlib.Path, sys.path) if (p / "torchreid" / "reid").is_dir()) / "torchreid" / "reid"
    spec = importlib.util.spec_from_file_location(module, root / f"{module.replace('.', '/')}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def product(folder, rounds):
    """The bare f32 matrix product of the retrieval's shape: what no evaluation can be faster than by much."""
    get = load_file(f"{folder}/retrieval.safetensors")
    q, g = get["q"], get["g"]
    out = torch.zeros(len(q), len(g))  # fresh pages would be charged to the product
    return measured(rounds, lambda: float(torch.mm(q, g.T, out=out)[0, 0]))


def retrieval(folder, rounds):
    """Its cost grows with the queries: every tenth one, and ten times the time."""
    rank = torchreid("metrics.rank")
    get = load_file(f"{folder}/retrieval.safetensors")
    q, g = get["q"][::10], get["g"]
    names = [get[name].numpy()[:: 10 if name.startswith("q") else 1] for name in ("q_person", "g_person", "q_camera", "g_camera")]

    def work():
        # As torchreid's own distance function computes it, and its evaluation without the Cython build.
        squares = q.square().sum(1, keepdim=True) + g.square().sum(1)[None]
        d = torch.addmm(squares, q, g.T, beta=1, alpha=-2).numpy()
        cmc, ap = rank.evaluate_rank(d, *names, max_rank=50, use_metric_cuhk03=False, use_cython=False)
        return {"mAP": float(ap), "rank1": float(cmc[0])}

    found = measured(1, work)
    return {**found, "seconds": found["seconds"] * get["q"].shape[0] / len(q)}


def rerank(folder):
    again = torchreid("utils.rerank")
    get = load_file(f"{folder}/retrieval.safetensors")
    q, g = get["q"], get["g"]

    def distance(a, b):
        # re_ranking squares what it is given; the authors' program has squared Euclidean distances there.
        squares = a.square().sum(1, keepdim=True) + b.square().sum(1)[None]
        return torch.addmm(squares, a, b.T, beta=1, alpha=-2).clamp_(min=0).sqrt_().numpy()

    out = []
    found = measured(1, lambda: out.append(again.re_ranking(distance(q, g), distance(q, q), distance(g, g), 20, 6, 0.3)))
    save_file({"d": torch.from_numpy(np.ascontiguousarray(out[0]))}, f"{folder}/rerank.peer.safetensors")
    return found


def lfw(folder, rounds):
    """The sweep that open implementations share: every threshold of a grid on every fold's other pairs."""
    get = load_file(f"{folder}/lfw.safetensors")
    dist, same = get["dist"].numpy(), get["same"].numpy() == 1

    def rates(threshold, d, s):
        called = d < threshold
        return (called == s).mean(), called[s].mean(), called[~s].mean()

    def work():
        folds = np.array_split(np.arange(len(dist)), 10)
        accuracies, vals = [], []
        for held in folds:
            train = np.setdiff1d(np.arange(len(dist)), held)
            right = [rates(t, dist[train], same[train])[0] for t in np.arange(0, 4, 0.01)]
            best = np.arange(0, 4, 0.01)[int(np.argmax(right))]
            accuracies.append(rates(best, dist[held], same[held])[0])
            # VAL at FAR 1e-3 over 4000 thresholds; the spline of the original fails where rates tie, this does not.
            grid = np.arange(0, 4, 0.001)
            far = np.array([rates(t, dist[train], same[train])[2] for t in grid])
            threshold = grid[np.flatnonzero(far <= 1e-3)[-1]]
            vals.append(rates(threshold, dist[held], same[held])[1])
        return {"accuracy": float(np.mean(accuracies)), "std": float(np.std(accuracies)), "val": float(np.mean(vals))}

    return measured(rounds, work)


def images(folder, name, rounds):
    from torchvision import io
    from torchvision.transforms import v2

    name, _, goes = name.partition("-")
    files = [torch.from_numpy(np.fromfile(path, np.uint8)) for path in sorted((folder / "jpegs" / name).iterdir())]
    # TriNet's training view; with a side, the square that the other papers' networks see.
    size = (int(goes), int(goes)) if goes else (256, 128)
    crop = [v2.Resize(size, antialias=True)] if goes else [v2.Resize((288, 144), antialias=True), v2.RandomCrop(size)]
    view = v2.Compose([
        *crop, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    batch = torch.empty(len(files), 3, *size)

    def work():
        for i, data in enumerate(files):
            batch[i] = view(io.decode_jpeg(data, mode=io.ImageReadMode.RGB))
        return {"images": len(files)}

    return measured(rounds, work)


def batch_hard_soft(x, labels):
    d = torch.cdist(x, x)
    same = labels[:, None] == labels[None, :]
    far = torch.where(same, d, 0).max(1).values
    near = torch.where(same, torch.inf, d).min(1).values
    return torch.nn.functional.softplus(far - near).mean()


def network(name):
    import gpu
    net, size, _ = gpu.network(name)
    if name == "vgg16":  # to fc7
        net.classifier = net.classifier[:4]
    return net, size


def training(name, rounds):
    form = next((form for form in ("last", "bf16", "compile") if name.endswith(f"-{form}")), "")
    net, size = network(name.removesuffix(f"-{form}"))
    net.train()
    torch.manual_seed(3)
    images, labels = torch.randn(16, 3, *size), torch.arange(16) // 4
    if form:  # channels_last, or that and bf16: what a careful user of eager PyTorch would set
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), 3e-4)

    if form == "compile":
        net = torch.compile(net)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=form == "bf16"):
            x = net(images)
        loss = batch_hard_soft(x.float(), labels)
        loss.backward()
        optimizer.step()
        return {"loss": float(loss), "parameters": sum(p.numel() for p in net.parameters())}

    # Memory of the first step, which makes Adam's moments (and where compiled, its time compiles).
    first = measured(1, step)
    found = measured(rounds, step)
    found["found"]["first_s"] = first["seconds"]
    return {**found, "memory_kib": first["memory_kib"]}


def embedding(name, rounds):
    """64 photos' worth of numbers in batches of 16, in channels_last: eager, frozen by torch.jit, or compiled with freezing."""
    name, _, form = name.rpartition("-")
    net, size = network(name)
    net = net.eval().to(memory_format=torch.channels_last)
    torch.manual_seed(3)
    parts = [part.contiguous(memory_format=torch.channels_last) for part in torch.randn(64, 3, *size).split(16)]
    with torch.no_grad():
        start = time.perf_counter()
        if form == "frozen":
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, parts[0])))
        if form == "compile":
            from torch._inductor import config
            config.freezing = True
            net = torch.compile(net)
        for _ in range(2):
            net(parts[0])
        ready = time.perf_counter() - start
        return {**measured(rounds, lambda: [net(part) for part in parts] and {"first_s": ready})}


def products(rows, distances_alone, rounds):
    """The matrix products of a loss of so many rows, in our blocks of anchors: its distances, and, but for batch hard, what
    both sides of each take."""
    torch.manual_seed(3)
    x = torch.randn(rows, 128)
    height = max(1, (1 << 24) // rows)
    out, gradient = torch.zeros(height, rows), torch.zeros(rows, 128)

    def all():
        for start in range(0, rows, height):
            own = slice(start, start + height)
            d = torch.mm(x[own], x.T, out=out[: min(height, rows - start)])
            if not distances_alone:
                gradient[own].addmm_(d, x)
                gradient.addmm_(d.T, x[own])

    return measured(rounds, all)


def adam(form, rounds):
    parameters = list(trinet().parameters())
    optimizer = torch.optim.Adam(parameters, 3e-4, fused=form == "fused" or None)
    sum(p.square().sum() for p in parameters).backward()
    optimizer.step()
    return measured(rounds, lambda: optimizer.step() and None)


def main():
    folder, job, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    if job.startswith("images-"):
        found = images(folder, job.removeprefix("images-"), rounds)
    elif job.startswith("step-"):
        found = training(job.removeprefix("step-"), rounds)
    elif job.startswith("embed-"):
        found = embedding(job.removeprefix("embed-"), rounds)
    elif job.startswith("products-"):
        _, kind, rows = job.split("-")
        found = products(int(rows), kind == "hard", rounds)
    elif job.startswith("adam"):
        found = adam(job.partition("-")[2], rounds)
    else:
        jobs = {"product": lambda: product(folder, rounds), "retrieval": lambda: retrieval(folder, rounds),
                "rerank": lambda: rerank(folder), "lfw": lambda: lfw(folder, rounds)}
        found = jobs[job]()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
