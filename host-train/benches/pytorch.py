#!/usr/bin/env python3
"""Training and inference speed beside PyTorch, in one run.

    cargo build --release -p host-train
    pip install torch torchvision
    python host-train/benches/pytorch.py [--networks mobilenetv2,resnet50] [--size 192] [--batch 32] [--steps 6] [--rounds 3]

For each network `host-train bench` and PyTorch (channels_last, its fastest layout on a CPU) take turns, each in a process of
its own, on the same number of threads; the medians over the rounds and their ratio are printed as a table and as one JSON
line a network (--json). Random images, AdamW, cross-entropy.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
RECIPES = os.path.join(HERE, "..", "recipes")


def torch_network(name, size):
    """The network, its input channels and its labels."""
    import torch.nn as nn
    import torchvision.models as models

    plain = {"mobilenetv2": models.mobilenet_v2, "resnet50": models.resnet50, "densenet121": models.densenet121}
    if name in plain:
        return plain[name](), 3, 1000
    with open(os.path.join(RECIPES, name + ".toml"), "rb") as f:
        recipe = tomllib.load(f)
    spec, channels = recipe["network"], recipe["input"]["channels"]
    layers, before, side = [], channels, size
    for to in spec["channels"]:
        layers.append(nn.Conv2d(before, to, 3, padding=1, bias=not spec["batch_norm"]))
        if spec["batch_norm"]:
            layers.append(nn.BatchNorm2d(to))
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        before, side = to, side // 2
    if spec["head"] == "flatten-dense":
        layers += [nn.Flatten(), nn.Linear(before * side * side, 128), nn.ReLU(inplace=True)]
        before = 128
    else:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Dropout(spec["dropout"]), nn.Linear(before, 2)]
    return nn.Sequential(*layers), channels, 2


def measure_torch(a):
    import torch

    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    net, channels, labels = torch_network(a.torch, a.size)
    parameters = sum(p.numel() for p in net.parameters())
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.01)
    loss_of = torch.nn.CrossEntropyLoss()
    target = torch.zeros(a.batch, dtype=torch.long)
    batch = lambda: torch.randn(a.batch, channels, a.size, a.size).to(memory_format=torch.channels_last)
    times = {"forward_ms": [], "backward_ms": [], "update_ms": [], "step_ms": [], "infer_ms": []}
    for i in range(a.steps + 2):
        x = batch()
        t0 = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(net(x), target)
        loss.item()
        t1 = time.perf_counter()
        loss.backward()
        t2 = time.perf_counter()
        optimizer.step()
        t3 = time.perf_counter()
        if i >= 2:
            for key, value in zip(times, (t1 - t0, t2 - t1, t3 - t2, t3 - t0)):
                times[key].append(value * 1e3)
    net.eval()
    with torch.no_grad():
        for i in range(a.steps + 2):
            x = batch()
            t0 = time.perf_counter()
            net(x)
            if i >= 2:
                times["infer_ms"].append((time.perf_counter() - t0) * 1e3)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    median = {k: round(statistics.median(v), 1) for k, v in times.items()}
    print(json.dumps({
        "network": a.torch, "parameters": parameters, "version": torch.__version__, "threads": torch.get_num_threads(),
        "train_images_per_s": round(a.batch * 1e3 / median["step_ms"], 2),
        "infer_images_per_s": round(a.batch * 1e3 / median["infer_ms"], 2), **median, "peak_rss_mib": round(peak, 1),
    }))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--networks", default="phantom-cnn,b-regularised-cnn,mobilenetv2,densenet121,resnet50")
    p.add_argument("--size", type=int, default=192)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--host-train", default=os.path.join(HERE, "..", "..", "target", "release", "host-train"))
    p.add_argument("--burn-operators", action="store_true", help="burn's own operators instead of Hilum's")
    p.add_argument("--json", action="store_true")
    p.add_argument("--torch", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.torch:
        return measure_torch(a)
    common = ["--size", str(a.size), "--batch", str(a.batch), "--steps", str(a.steps)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(a.threads)}
    if not a.json:
        print(f"{'network':16} {'parameters':>10} {'ours':>9} {'PyTorch':>9} {'ratio':>6}   {'infer':>6}   {'peak MiB':>8} {'PyTorch':>8}")
    for name in a.networks.split(","):
        ours, theirs = [], []
        for _ in range(a.rounds):
            mine = [a.host_train, "bench", "-q", "--json", "--network", name, *common]
            if a.burn_operators:
                mine.append("--burn-operators")
            ours.append(json.loads(subprocess.check_output(mine, env=environment)))
            peer = [sys.executable, os.path.abspath(__file__), "--torch", name, "--threads", str(a.threads), *common]
            theirs.append(json.loads(subprocess.check_output(peer, env=environment)))
        median = lambda rows, key: statistics.median(r[key] for r in rows)
        keys = ["train_images_per_s", "infer_images_per_s", "forward_ms", "backward_ms", "update_ms", "peak_rss_mib"]
        row = {
            "network": name, "size": a.size, "batch": a.batch, "threads": a.threads, "rounds": a.rounds,
            "parameters": [ours[0]["parameters"], theirs[0]["parameters"]], "torch": theirs[0]["version"],
            "ours": {k: median(ours, k) for k in keys}, "pytorch": {k: median(theirs, k) for k in keys},
        }
        row["ratio"] = {k: round(row["ours"][k] / row["pytorch"][k], 3) for k in keys}
        if a.json:
            print(json.dumps(row), flush=True)
        else:
            o, t = row["ours"], row["pytorch"]
            print(
                f"{name:16} {ours[0]['parameters']:10} {o[keys[0]]:9.1f} {t[keys[0]]:9.1f} {row['ratio'][keys[0]]:6.2f}   "
                f"{row['ratio'][keys[1]]:6.2f}   {o[keys[5]]:8.0f} {t[keys[5]]:8.0f}", flush=True)


if __name__ == "__main__":
    main()
