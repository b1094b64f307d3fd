"""scripts/bench --gpu: losses with mining and whole training steps on one GPU, ours beside the peers', in one run.

    scripts/bench --gpu                                    builds our side and runs this
    python gpu.py --binary FILE [--out FOLDER] [--only TEXT,TEXT] [--seconds N] [--compile TEXT,TEXT] [--compile-graphs TEXT,TEXT] [--device cuda]
                                                           on a machine without Rust: FILE is the archive's bench-gpu

Needs torch; pytorch-metric-learning and torchvision where there are any (a row without its peer says so). Both sides draw
the same inputs from the same seeds of libtorch's generator; losses and gradients are compared before a ratio is given. A
ratio is the peer's time over ours. Each row is printed, and FOLDER/gpu.json written anew, as soon as it is known; the exit
code is 1 where our side failed or disagreed. `RANKLE_DETERMINISTIC=1` measures our side with --deterministic's switches.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch

BATCHES = [128, 512, 1800, 4096, 8192]
# Kind, the largest batch at which the peer fits, the largest at which ours is asked for.
LOSSES = [("batch-hard", 8192, 8192), ("batch-all", 512, 8192), ("batch-all-soft", 512, 1800), ("semi-hard", 1800, 8192), ("lsep", 8192, 8192)]
STEPS = [("trinet", 72), ("lunet", 128), ("inception-resnet-v1", 200), ("nn2", 200), ("vgg16", 64),
         ("bn-inception", 256), ("quadruplet", 512)]  # the last two without a peer
PRECISIONS = ["tf32", "bf16", "f32"]


def environment():
    """For a program linked against libtorch: its folder, and that of NVRTC's builtins, which Python's torch loads by itself."""
    lib = pathlib.Path(torch.__file__).parent / "lib"
    folders = [lib, lib.parents[1] / "nvidia/cu13/lib", os.environ.get("LD_LIBRARY_PATH")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders if folder)}


class Ours:
    """Our side, one process for all rows."""

    def __init__(self, args):
        self.command = [args.binary, "serve", "--device", args.device]
        self.process = None

    def ask(self, *words):
        if self.process is None:
            self.process = subprocess.Popen(self.command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        except BrokenPipeError:
            pass
        code, self.process = self.process.wait(), None
        return {"error": f"ended with {code}"}


def settle(device):
    if device != "cpu":
        torch.cuda.synchronize()


def timed(device, work):
    for _ in range(3):
        work()
    settle(device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    settle(device)
    calls = int(min(max(0.1 / (time.perf_counter() - start), 1), 200))
    series = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        settle(device)
        series.append(1e3 * (time.perf_counter() - start) / calls)
    peak = torch.cuda.max_memory_allocated() if device != "cpu" else None
    return statistics.median(series), peak


def inputs(kind, batch):
    torch.manual_seed(batch)
    if kind == "lsep":
        return torch.randn(batch, 80) * 2, (torch.rand(batch, 80) < 0.04).long()
    each = 40 if kind == "semi-hard" else 4
    centres = torch.randn(-(-batch // each), 128).repeat_interleave(each, 0)[:batch]
    x = centres + torch.randn(batch, 128) * 1.5
    x = torch.nn.functional.normalize(x) if kind == "semi-hard" else x / 8
    return x, torch.arange(batch) // each


def metric_learning(kind):
    """The miner and the loss of a peer: every triplet, or those of a miner; our mean over all terms, or over those above 0."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    euclidean = distances.LpDistance(normalize_embeddings=False)
    every = dict(distance=euclidean, reducer=reducers.MeanReducer())
    if kind == "batch-hard":
        return miners.BatchHardMiner(distance=euclidean), losses.TripletMarginLoss(0.2, **every)
    if kind == "batch-all":
        return None, losses.TripletMarginLoss(0.2, distance=euclidean, reducer=reducers.AvgNonZeroReducer())
    if kind == "batch-all-soft":
        return None, losses.TripletMarginLoss(0.0, smooth_loss=True, **every)
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    loss = losses.TripletMarginLoss(0.2, distance=squared, reducer=reducers.AvgNonZeroReducer())
    return miners.TripletMarginMiner(0.2, distance=squared, type_of_triplets="semihard"), loss


def eager(kind):
    """What one would write in PyTorch by hand; None where that is no more than the peer's form."""

    def batch_hard(x, y):
        d = torch.cdist(x, x)
        same = y[:, None] == y[None, :]
        return (0.2 + torch.where(same, d, 0).max(1).values - torch.where(same, torch.inf, d).min(1).values).relu().mean()

    def lsep(f, y):
        has = y > 0
        up = f.masked_fill(has, -torch.inf).logsumexp(1) + (-f).masked_fill(~has, -torch.inf).logsumexp(1)
        valid = has.any(1) & ~has.all(1)
        return torch.nn.functional.softplus(torch.where(valid, up, 0)).mul(valid).sum() / valid.sum()

    return {"batch-hard": batch_hard, "lsep": lsep}.get(kind)


def their_loss(kind, batch, device, form):
    x, y = (t.to(device) for t in inputs(kind, batch))
    if form == "eager":
        function = eager(kind)
        charge = lambda leaf: function(leaf, y)
    else:
        miner, loss = metric_learning(kind)
        charge = lambda leaf: loss(leaf, y, miner(leaf.detach(), y) if miner else None)

    def step():
        leaf = x.detach().requires_grad_()
        value = charge(leaf)
        value.backward()
        return value.detach(), leaf.grad

    value, gradient = step()
    ms, peak = timed(device, step)
    return {"ms": ms, "peak_bytes": peak, "loss": float(value), "gradient_norm": float(gradient.norm())}


class Inception(torch.nn.Module):
    """A module of NN2 (1503.03832, Table 2) with batch normalisation."""

    def __init__(self, inputs, one, three, five, pool, projection):
        super().__init__()
        nn, stride = torch.nn, 1 if one else 2
        unit = lambda a, b, k, s: nn.Sequential(nn.Conv2d(a, b, k, s, k // 2), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        self.branches = nn.ModuleList([unit(inputs, one, 1, 1)] if one else [])
        for k, (a, b) in ((3, three), (5, five)):
            self.branches.append(nn.Sequential(unit(inputs, a, 1, 1), unit(a, b, k, stride)))
        self.pool = nn.LPPool2d(2, 3, stride) if pool == "l2" else nn.MaxPool2d(3, stride, 1)
        self.l2 = pool == "l2"
        self.projection = unit(inputs, projection, 1, 1) if projection else nn.Identity()

    def forward(self, x):
        pooled = self.pool(torch.nn.functional.pad(x, (1, 1, 1, 1)) if self.l2 else x)
        return torch.cat([branch(x) for branch in self.branches] + [self.projection(pooled)], 1)


class NN2(torch.nn.Module):
    ROWS = [(64, (96, 128), (16, 32), "max", 32), (64, (96, 128), (32, 64), "l2", 64), (0, (128, 256), (32, 64), "max", 0),
            (256, (96, 192), (32, 64), "l2", 128), (224, (112, 224), (32, 64), "l2", 128), (192, (128, 256), (32, 64), "l2", 128),
            (160, (144, 288), (32, 64), "l2", 128), (0, (160, 256), (64, 128), "max", 0), (384, (192, 384), (48, 128), "l2", 128),
            (384, (192, 384), (48, 128), "max", 128)]

    def __init__(self):
        super().__init__()
        nn = torch.nn
        unit = lambda a, b, k, s: nn.Sequential(nn.Conv2d(a, b, k, s, k // 2), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        norm = lambda: nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
        parts = [unit(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), norm(), unit(64, 64, 1, 1), unit(64, 192, 3, 1), norm(), nn.MaxPool2d(3, 2, 1)]
        inputs = 192
        for one, three, five, pool, projection in self.ROWS:
            parts.append(Inception(inputs, one, three, five, pool, projection))
            inputs = one + three[1] + five[1] + (projection or inputs)
        self.body = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 128))

    def forward(self, x):
        return torch.nn.functional.normalize(self.body(x))


def network(name):
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import nets

    if name in ("bn-inception", "quadruplet"):
        raise LookupError("none")
    if name == "nn2":
        return NN2(), (224, 224), 40
    if name == "inception-resnet-v1":
        return nets.inception_resnet_v1(), (160, 160), 40
    if name == "vgg16":
        import torchvision
        net = torchvision.models.vgg16()
        nn = torch.nn
        net.classifier = nn.Sequential(nn.Linear(25088, 4096), nn.ReLU(True), nn.Linear(4096, 4096), nn.ReLU(True),
                                       nn.Dropout(), nn.Linear(4096, 80))
        return net, (224, 224), 4
    return (nets.trinet(), (256, 128), 4) if name == "trinet" else (nets.lunet(), (128, 64), 4)


def their_step(name, precision, batch, device, compiled):
    net, size, each = network(name)
    net = net.to(device).to(memory_format=torch.channels_last).train()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    optimizer = torch.optim.Adam(net.parameters(), 3e-4, fused=device != "cpu" or None)
    torch.manual_seed(3)
    host = torch.randn(batch, 3, *size)
    host = host.pin_memory() if device != "cpu" else host
    people = (torch.arange(batch) // each).to(device)
    classes = (torch.rand(batch, 80) < 0.04).long().to(device)
    hard, lsep = eager("batch-hard"), eager("lsep")

    def semi_hard(x, y):  # every pair, the nearest negative within the margin: B^3 in one line of eager PyTorch does not fit
        d = torch.cdist(x, x).square()
        same = y[:, None] == y[None, :]
        sorted_, _ = d.masked_fill(same, torch.inf).sort(1)
        place = torch.searchsorted(sorted_, d.detach().contiguous(), right=True).clamp(max=d.shape[1] - 1)
        near = sorted_.gather(1, place)
        kept = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device) & (near < d + 0.2)
        return (d - near + 0.2).masked_fill(~kept, 0).sum() / kept.sum().clamp(min=1)

    def charge(images):
        with torch.autocast("cuda" if device != "cpu" else "cpu", torch.bfloat16, enabled=precision == "bf16"):
            x = net(images)
        x = x.float()
        return lsep(x, classes) if name == "vgg16" else semi_hard(x, people) if each == 40 else hard(x, people)

    if compiled:
        torch._dynamo.reset()
        charge = torch.compile(charge, mode=compiled)

    def step():
        loss = charge(host.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    start = time.perf_counter()
    step()
    settle(device)
    first = time.perf_counter() - start
    ms, peak = timed(device, step)
    return {"ms": ms, "images_per_second": 1e3 * batch / ms, "peak_bytes": peak, "first_step_s": first}


def tried(work, *words):
    """A peer that is not installed or does not fit is a row that says so."""
    try:
        return work(*words)
    except ImportError as error:
        return {"error": f"not installed: {error.name}"}
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as error:
        return {"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def mib(found):
    return "" if found.get("peak_bytes") is None else f"{found['peak_bytes'] / 2**20:.0f}"


def number(found, key="ms"):
    return f"{found[key]:.3f}" if key in found else found.get("error", "-")[:160]


def ratio(mine, theirs):
    return f"{theirs['ms'] / mine['ms']:.2f}" if "ms" in mine and "ms" in theirs else "-"


def agree(mine, theirs):
    """How far loss and gradient are apart; FaceNet's peer has other terms."""
    if "loss" not in mine or "loss" not in theirs:
        return None
    return max(abs(mine[key] - theirs[key]) / max(abs(theirs[key]), 1e-12) for key in ("loss", "gradient_norm"))


LOSS_HEAD = """| loss, forward and backward | B | ours, ms | of it the host's | PML, ms | ratio | eager, ms | ratio | ours, MiB | PML, MiB | apart |
|---|---|---|---|---|---|---|---|---|---|---|"""
STEP_HEAD = """
| training step, channels_last, Adam | B | ours, images/s | eager, images/s | ratio | ours as a CUDA graph | torch.compile | its reduce-overhead | our graph / the better | compiling, s | loss and mining, share of ours | in the graph | outside the network | the host's share | ours, MiB | eager, MiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def of_loss(args, ours, kind, peers_most, batch):
    mine = ours.ask("loss", kind, batch)
    theirs = {"error": "B^3 numbers"} if batch > peers_most else tried(their_loss, kind, batch, args.device, "pml") if kind != "lsep" else {"error": "none"}
    by_hand = tried(their_loss, kind, batch, args.device, "eager") if eager(kind) else {"error": "none"}
    gaps = [gap for gap in (agree(mine, other) for other in ((by_hand,) if kind == "semi-hard" else (theirs, by_hand))) if gap is not None]
    row = {"kind": kind, "batch": batch, "ours": mine, "pml": theirs, "eager": by_hand, "apart": max(gaps, default=None)}
    if gaps and max(gaps) > 2e-3:  # no ratio of unequal things
        row["ours"] = {**mine, "error": f"apart by {max(gaps):.1e}"}
        return row, f"| {kind} | {batch} | apart by {max(gaps):.1e} |"
    apart = f"{max(gaps):.0e}" if gaps else "-"
    return row, (f"| {kind} | {batch} | {number(mine)} | {number(mine, 'host_ms')} | {number(theirs)} | {ratio(mine, theirs)} | {number(by_hand)} "
                 f"| {ratio(mine, by_hand)} | {mib(mine)} | {mib(theirs)} | {apart} |")


def of_step(args, ours, name, precision, batch):
    mine = ours.ask("step", name, precision, batch)
    graph = ours.ask("step", name, precision, batch, "graph") if args.device != "cpu" else {"error": "-"}
    theirs = tried(their_step, name, precision, batch, args.device, False)
    asked = lambda texts: any(text and text in f"step-{name}-{precision}" for text in texts.split(","))
    compiled, launched = (tried(their_step, name, precision, batch, args.device, mode) if asked(texts) else {"error": "not asked for"}
                          for texts, mode in ((args.compile, "default"), (args.compile_graphs, "reduce-overhead")))
    best, peer = graph if "ms" in graph else mine, min(compiled, launched, key=lambda of: of.get("ms", float("inf")))
    row = {"net": name, "precision": precision, "batch": batch, "ours": mine, "ours as a CUDA graph": graph, "eager": theirs, "compile": compiled, "compile with graphs": launched}
    share = lambda part, of=mine: f"{100 * part(of) / of['ms']:.1f} %" if "ms" in of else "-"
    rates = f"{number(mine, 'images_per_second')} | {number(theirs, 'images_per_second')} | {ratio(mine, theirs)}"
    return row, (f"| {name}, {precision} | {batch} | {rates} | {number(graph, 'images_per_second')} | {number(compiled, 'images_per_second')} | {number(launched, 'images_per_second')} | {ratio(best, peer)} "
                 f"| {number(compiled, 'first_step_s') if 'ms' in compiled else '-'} | {share(lambda m: m['loss_ms'])} | {share(lambda m: m['loss_ms'], graph)} "
                 f"| {share(lambda m: m['ms'] - m['network_ms'])} | {share(lambda m: m['host_ms'])} | {mib(mine)} | {mib(theirs)} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, help="our side: target/release/deps/gpu-*, or bench-gpu of scripts/bundle --check")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/bench"))
    parser.add_argument("--only", default="", help="rows whose name has one of these in it, e.g. batch-hard-512,step-trinet")
    parser.add_argument("--compile", default="", help="steps whose name has one of these in it meet torch.compile too, which takes a minute each: e.g. step-trinet-bf16; step- for all")
    parser.add_argument("--compile-graphs", default="", help="likewise for torch.compile's mode reduce-overhead, which launches CUDA graphs")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so many")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try this program")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("bench: this torch sees no CUDA device: nothing can be measured here (--device cpu tries the program)")
    begun = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / "gpu.json"
    card = torch.cuda.get_device_name() if args.device != "cpu" else "CPU"
    result = {"date": datetime.date.today().isoformat(), "device": card, "torch": torch.__version__, "losses": [], "steps": []}
    print(f"{card}, torch {torch.__version__}, {result['date']}\n")
    asked = lambda name: any(text in name for text in args.only.split(","))
    ours, failed, late = Ours(args), [], []

    def rows(part, head, jobs):
        jobs = [job for job in jobs if asked(job[0])]
        if jobs:
            print(head, flush=True)
        for name, work, *about in jobs:
            if time.perf_counter() - begun > args.seconds:
                late.append(name)
                continue
            row, line = work(args, ours, *about)
            result[part].append(row)
            graph = row.get("ours as a CUDA graph", {}) if args.device != "cpu" else {}
            failed.extend([name] if "error" in row["ours"] or "error" in graph else [])
            out.write_text(json.dumps(result, indent=1))
            print(line, flush=True)

    batches = [int(batch) for batch in args.batches.split(",")]
    rows("losses", LOSS_HEAD, [(f"{kind}-{batch}", of_loss, kind, peers, batch) for kind, peers, most in LOSSES for batch in batches if batch <= most])
    few = lambda batch: batch if args.device != "cpu" else 8
    rows("steps", STEP_HEAD, [(f"step-{name}-{precision}", of_step, name, precision, few(batch)) for precision in PRECISIONS for name, batch in STEPS])
    if late:
        print(f"\nno time for {', '.join(late)}")
    print(f"\nresults: {out}")
    if late and not result["losses"] and not result["steps"]:
        raise SystemExit("bench: there was time for nothing: give more --seconds")
    if failed:
        raise SystemExit(f"bench: our side failed at {', '.join(failed)}")


if __name__ == "__main__":
    main()
