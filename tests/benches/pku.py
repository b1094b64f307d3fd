"""TriNet on people in Market-1501's layout by plain PyTorch: the peer of `triplet-reid train --net trinet|trinet-caffe`.

    python pku.py --weights resnet50-he-caffe.safetensors --data data/pku-reid --strides caffe torchvision --seed 1 2 3

The same recipe (1703.07737): batch hard with the soft margin on Euclidean distances, P x K images, crop and flip, Adam with
the decay of Eq. 8, embeddings of ten crops averaged, Market-1501's rules. Needs torch, torchvision and Pillow, and nothing of ours:
it runs where there is no Rust. Each run prints a JSON line; with --save FOLDER its network is written by our names, and
`triplet-reid evaluate --weights FOLDER/caffe-1.pt --net trinet-caffe --data DIR --size 128x64` gives the same scores.
"""

import argparse
import json
import pathlib
import re
import time

import PIL.Image
import torch
from torch.nn.functional import softplus

import nets

CAFFE_MEAN = [123.15163084, 115.90288257, 103.0626238]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def tensors(path):
    """What a .safetensors or .pth file holds, by name."""
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    read = lambda entry: torch.frombuffer(data, dtype=torch.float32, offset=start + entry["data_offsets"][0], count=torch.Size(entry["shape"]).numel())
    return {name: read(entry).view(entry["shape"]).clone() for name, entry in header.items() if entry.get("dtype") == "F32"}


def network(path, strides, device):
    """TriNet on the ResNet-50 of `path`, which has torchvision's names and expects its normalisation."""
    net, weights = nets.trinet(), tensors(path)
    if strides == "caffe":
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        net.maxpool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
        weights["conv1.weight"] = weights["conv1.weight"] / (torch.tensor(STD) * 255).view(1, 3, 1, 1)
    weights = {name: x for name, x in weights.items() if not name.startswith("fc.")}
    missing, surplus = net.load_state_dict(weights, strict=False)
    if surplus or any(not name.startswith("fc.") and "num_batches" not in name for name in missing):
        raise SystemExit(f"{path}: no ResNet-50 by torchvision's names")
    torch.nn.init.xavier_uniform_(net.fc[0].weight, 2**0.5)
    torch.nn.init.xavier_uniform_(net.fc[3].weight)
    torch.nn.init.zeros_(net.fc[3].bias)
    return net.to(device, memory_format=torch.channels_last)


def photos(folder, size, device):
    """All photos of a folder at 9/8 of the input size, [N, 3, H, W] bytes, and who and which camera."""
    enlarged = [(side * 9 + 4) // 8 for side in size]
    pixels, people, cameras = [], [], []
    for path in sorted(folder.glob("*.jpg")):
        person, camera = map(int, re.match(r"(-?\d+)_c(\d+)", path.name).groups())
        image = PIL.Image.open(path).convert("RGB").resize(enlarged[::-1], PIL.Image.Resampling.BILINEAR)
        pixels.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(*enlarged, 3).permute(2, 0, 1))
        people.append(person), cameras.append(camera)
    if not pixels:
        raise SystemExit(f"{folder}: no photos NNNN_cC*.jpg")
    return torch.stack(pixels).to(device), torch.tensor(people, device=device), torch.tensor(cameras, device=device)


def normalised(pixels, strides):
    mean, std = (torch.tensor(CAFFE_MEAN), torch.ones(3)) if strides == "caffe" else (torch.tensor(MEAN) * 255, torch.tensor(STD) * 255)
    mean, std = (x.view(1, 3, 1, 1).to(pixels.device, non_blocking=True) for x in (mean, std))
    return ((pixels.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def batches(people, p, k, generator):
    """Rows of P people with K photos each; a person's photos come in passes, the remainder of people is dropped."""
    rows = {person: (people == person).nonzero().flatten() for person in people.unique().tolist() if person > 0}
    if len(rows) < p:
        raise SystemExit(f"--p {p}: {len(rows)} people to train on")
    left = {person: [] for person in rows}

    def take(person):
        own = rows[person]
        if len(own) <= k:
            return own.repeat(-(-k // len(own)))[:k].tolist()
        if not left[person]:
            order = own[torch.randperm(len(own), generator=generator)]
            starts = [min(start, len(own) - k) for start in range(0, len(own), k)]
            left[person] = [order[start : start + k].tolist() for start in starts]
        return left[person].pop(0)

    while True:
        order = [list(rows)[i] for i in torch.randperm(len(rows), generator=generator)]
        for start in range(0, len(order) - p + 1, p):
            yield torch.tensor([row for person in order[start : start + p] for row in take(person)])


def batch_hard(x, labels):
    d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None, :]
    return softplus(d.where(same, -torch.inf).max(1).values - d.where(~same, torch.inf).min(1).values).mean()


def train(net, args, strides, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels, people, _ = photos(args.data / "bounding_box_train", args.size, "cpu")
    pixels, labels = pixels.to(args.device), people.to(args.device)
    optimizer = torch.optim.Adam(net.parameters(), args.lr, fused=args.device != "cpu")
    t0, (height, width) = args.steps * 3 // 5, args.size
    spare, net = [pixels.shape[2] - height + 1, pixels.shape[3] - width + 1], net.train()
    rows = batches(people, args.p, args.k, generator)
    start, losses = time.perf_counter(), []
    for t in range(args.steps):
        chosen = next(rows)
        top, left = (torch.randint(n, (len(chosen),), generator=generator) for n in spare)
        flip = torch.rand(len(chosen), generator=generator) < 0.5
        columns = torch.where(flip[:, None], torch.arange(width).flip(0), torch.arange(width)) + left[:, None]
        lines = torch.arange(height) + top[:, None]
        at = [x.to(args.device) for x in (chosen, lines, columns)]
        views = pixels[at[0][:, None, None], :, at[1][:, :, None], at[2][:, None, :]].permute(0, 3, 1, 2)
        group = optimizer.param_groups[0]
        group["lr"] = args.lr * 0.001 ** (max(t - t0, 0) / (args.steps - t0))
        group["betas"] = (0.9 if t < t0 else 0.5, 0.999)
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.amp == "bf16"):
            x = net(normalised(views, strides))
        loss = batch_hard(x.float(), labels[at[0]])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if t % 50 == 0 or t + 1 == args.steps:
            print(f"{strides} {seed}: step {t + 1} of {args.steps}, loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s", flush=True)
    return {"seconds": round(time.perf_counter() - start, 1), "loss": round(torch.stack(losses[-50:]).mean().item(), 4)}


@torch.no_grad()
def embedded(net, args, strides, folder):
    pixels, people, cameras = photos(args.data / folder, args.size, args.device)
    (height, width), (down, right) = args.size, (pixels.shape[2] - args.size[0], pixels.shape[3] - args.size[1])
    total = 0
    for top, left in [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]:
        crop = pixels[:, :, top : top + height, left : left + width]
        for view in (crop, crop.flip(3)):
            total = total + torch.cat([net(normalised(part, strides)) for part in view.split(64)])
    return (total / 10).double().cpu(), people.cpu(), cameras.cpu()


def scores(net, args, strides):
    net.eval()
    (q, q_person, q_camera), (g, g_person, g_camera) = (embedded(net, args, strides, name) for name in ("query", "bounding_box_test"))
    trapezoid, step, first = [], [], []
    for i, order in enumerate(torch.cdist(q, g).argsort(dim=1, stable=True)):
        seen = (g_person[order] >= 0) & ~((g_person[order] == q_person[i]) & (g_camera[order] == q_camera[i]))
        ranks = (g_person[order][seen] == q_person[i]).nonzero().flatten().double() + 1
        if len(ranks) == 0:
            continue
        hits = torch.arange(1, len(ranks) + 1)
        before = torch.where(ranks > 1, (hits - 1) / (ranks - 1).clamp(1), 1.0)
        step.append((hits / ranks).mean().item())
        trapezoid.append(((hits / ranks + before) / 2).mean().item())
        first.append(ranks[0].item())
    mean = lambda values: round(100 * sum(values) / len(first), 2)
    cmc = lambda k: mean([rank <= k for rank in first])
    return {"mAP": mean(trapezoid), "mAP (step)": mean(step), "rank-1": cmc(1), "rank-5": cmc(5), "queries": len(first)}


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--weights", type=pathlib.Path, required=True, help="a ResNet-50 by torchvision's names, .safetensors or .pth")
    parse.add_argument("--data", type=pathlib.Path, required=True)
    parse.add_argument("--strides", nargs="+", choices=["caffe", "torchvision"], default=["caffe"])
    parse.add_argument("--seed", nargs="+", type=int, default=[1])
    parse.add_argument("--steps", type=int, default=600)
    parse.add_argument("--size", type=lambda text: [int(side) for side in text.split("x")], default=[128, 64], metavar="HxW")
    parse.add_argument("--p", type=int, default=18)
    parse.add_argument("--k", type=int, default=4)
    parse.add_argument("--lr", type=float, default=3e-4)
    parse.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parse.add_argument("--amp", choices=["no", "bf16"], default="no")
    parse.add_argument("--tf32", action="store_true", help="TF32 products on a GPU, as triplet-reid's --tf32")
    parse.add_argument("--save", type=pathlib.Path, help="folder for the networks, by our names")
    args = parse.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    for strides in args.strides:
        for seed in args.seed:
            torch.manual_seed(seed)
            net = network(args.weights, strides, args.device)
            run = train(net, args, strides, seed)
            what = {"strides": strides, "seed": seed, "steps": args.steps, "device": args.device}
            print(json.dumps({**what, **run, **scores(net, args, strides)}), flush=True)
            if args.save:
                args.save.mkdir(parents=True, exist_ok=True)
                ours = {"fc.0": "head.hidden", "fc.1": "head.bn", "fc.3": "head.embedding"}
                named = {ours.get(name[:4], name[:4]) + name[4:]: x.cpu() for name, x in net.state_dict().items() if "num_batches" not in name}
                torch.save(named, args.save / f"{strides}-{seed}.pt")


if __name__ == "__main__":
    main()
