#!/usr/bin/env python3
"""Whole models beside the engines that a user would pick instead: process CPU time of one inference.

    pip install onnxruntime openvino numpy
    cargo build --release -p edge-runtime
    python3 edge-runtime/benches/peers.py model.hilum model.int8.onnx [--threads 1] [--rounds 5] [--runs 40] [--json]

Every round measures each engine in a process of its own, one after the other, because machines are shared and change their
speed: quote ratios of the medians over rounds. `onnxruntime-exact` asks ONNX Runtime for products without saturation
(session.x64quantprecision), which it needs on x86-64 without VNNI to compute what ONNX defines.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def measure(engine, model, threads, runs):
    import numpy as np

    if engine.startswith("onnxruntime"):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        if engine.endswith("exact"):
            options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        tensor = session.get_inputs()[0]
        shape = [d if isinstance(d, int) else 1 for d in tensor.shape]
        run = lambda x: session.run(None, {tensor.name: x})
    else:
        import openvino as ov

        network = ov.Core().read_model(model)
        shape = [1 if d.is_dynamic else d.get_length() for d in network.inputs[0].partial_shape]
        network.reshape(shape)
        hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        request = ov.Core().compile_model(network, "CPU", hints).create_infer_request()
        run = lambda x: request.infer({0: x})
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    cpu, wall = [], []
    for i in range(runs + 5):
        c, w = time.process_time(), time.perf_counter()
        run(x)
        if i >= 5:
            cpu.append((time.process_time() - c) * 1e3)
            wall.append((time.perf_counter() - w) * 1e3)
    return {"cpu_ms": statistics.median(cpu), "wall_ms": statistics.median(wall)}


def ours(bundle, threads, runs):
    binary = os.environ.get("HILUM_EDGE_RUNTIME", "target/release/edge-runtime")
    command = [binary, "bench", "--model", bundle, "--threads", str(threads), "--runs", str(runs), "--json"]
    r = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"cpu_ms": r["network_cpu_ms"]["p50"], "wall_ms": r["network_ms"]["p50"], "kernel": r["kernel"]}


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("bundle")
p.add_argument("int8")
p.add_argument("--threads", type=int, default=1)
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--runs", type=int, default=40)
p.add_argument("--json", action="store_true")
p.add_argument("--engine", help=argparse.SUPPRESS)
a = p.parse_args()
if a.engine:
    print(json.dumps(measure(a.engine, a.int8, a.threads, a.runs)))
    sys.exit()
engines = ["hilum", "onnxruntime", "onnxruntime-exact", "openvino"]
seen = {e: [] for e in engines}
for _ in range(a.rounds):
    for engine in engines:
        if engine == "hilum":
            seen[engine].append(ours(a.bundle, a.threads, a.runs))
            continue
        out = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--engine", engine], capture_output=True, text=True)
        if out.returncode == 0:
            seen[engine].append(json.loads(out.stdout))
        else:
            why = (out.stderr.strip().splitlines() or ["no message"])[-1]
            sys.exit(f"peers.py: {engine} failed: {why}")
report = {"model": os.path.basename(a.int8), "threads": a.threads, "kernel": seen["hilum"][0]["kernel"], "engines": {}}
for engine, rounds in seen.items():
    if not rounds:
        continue
    row = {k: round(statistics.median(r[k] for r in rounds), 2) for k in ("cpu_ms", "wall_ms")}
    row["cpu_ms_least"] = round(min(r["cpu_ms"] for r in rounds), 2)
    report["engines"][engine] = row
for engine, row in report["engines"].items():
    row["hilum_ratio"] = round(report["engines"]["hilum"]["cpu_ms"] / row["cpu_ms"], 2)
if a.json:
    print(json.dumps(report))
else:
    print(f"{report['model']}, {a.threads} thread(s), kernel {report['kernel']}")
    print(f"{'engine':<20}{'CPU ms':>8}{'least':>8}{'wall ms':>9}{'ours / it':>11}")
    for engine, r in report["engines"].items():
        print(f"{engine:<20}{r['cpu_ms']:>8}{r['cpu_ms_least']:>8}{r['wall_ms']:>9}{r['hilum_ratio']:>11}")
