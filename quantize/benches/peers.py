#!/usr/bin/env python3
"""How exact int8 is: ours and ONNX Runtime's quantisers on the same network and the same calibration images.

Builds EfficientNet-Lite0 (1000 classes) from its PyTorch weights as ONNX, quantises it with `quantize` and with
onnxruntime.quantization (per channel, QDQ; MinMax, Percentile, Entropy), runs all in ONNX Runtime, and prints agreement of the
likeliest class with the float model and the signal-to-noise ratio of the logits.

    pip install numpy pillow onnx onnxruntime
    python3 quantize/benches/peers.py --weights efficientnet_lite0_imagenet.safetensors --calibrate DIR --judge DIR
"""
import argparse
import glob
import json
import os
import struct
import subprocess
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from PIL import Image

# Expansion, output channels, repetitions, first stride, kernel.
TABLE = [
    [1, 16, 1, 1, 3],
    [6, 24, 2, 2, 3],
    [6, 40, 2, 2, 5],
    [6, 80, 3, 2, 3],
    [6, 112, 3, 1, 5],
    [6, 192, 4, 2, 5],
    [6, 320, 1, 1, 3],
]
SIDE = 224


def read_safetensors(path):
    with open(path, "rb") as file:
        head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensor = lambda t: np.frombuffer(data[slice(*t["data_offsets"])], np.float32).reshape(t["shape"]).copy()
    return {name: tensor(t) for name, t in head.items()}


class Builder:
    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = []
        self.constant("zero", np.array(0.0))
        self.constant("six", np.array(6.0))

    def constant(self, name, values):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values.astype(np.float32)), name))
        return name

    def conv(self, x, conv, norm, kernel, stride, groups, side, relu6, out):
        """A convolution with its batch norm folded in, and TensorFlow's padding."""
        w = self.weights
        scale = w[norm + ".weight"] / np.sqrt(w[norm + ".running_var"] + 1e-3)
        weight = self.constant(out + ".w", w[conv + ".weight"] * scale[:, None, None, None])
        bias = self.constant(out + ".b", w[norm + ".bias"] - w[norm + ".running_mean"] * scale)
        outputs = -(-side // stride)
        padding = max((outputs - 1) * stride + kernel - side, 0)
        pads = [padding // 2] * 2 + [padding - padding // 2] * 2
        attributes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        self.nodes.append(helper.make_node("Conv", [x, weight, bias], [out], name=out, **attributes))
        if not relu6:
            return out, outputs
        self.nodes.append(helper.make_node("Clip", [out, "zero", "six"], [out + ".r"], name=out + ".r"))
        return out + ".r", outputs


def efficientnet_lite0(weights):
    b = Builder(weights)
    x, side = b.conv("input", "_conv_stem", "_bn0", 3, 2, 1, SIDE, True, "stem")
    channels, block = 32, 0
    for expand, to, repeat, first_stride, kernel in TABLE:
        for i in range(repeat):
            stride = first_stride if i == 0 else 1
            name, hidden, y, inner = f"_blocks.{block}.", channels * expand, x, side
            if expand > 1:
                y, _ = b.conv(y, name + "_expand_conv", name + "_bn0", 1, 1, 1, side, True, f"b{block}e")
            y, inner = b.conv(y, name + "_depthwise_conv", name + "_bn1", kernel, stride, hidden, side, True, f"b{block}d")
            y, _ = b.conv(y, name + "_project_conv", name + "_bn2", 1, 1, 1, inner, False, f"b{block}p")
            if stride == 1 and channels == to:
                b.nodes.append(helper.make_node("Add", [y, x], [f"b{block}a"], name=f"b{block}a"))
                y = f"b{block}a"
            x, channels, side, block = y, to, inner, block + 1
    x, _ = b.conv(x, "_conv_head", "_bn1", 1, 1, 1, side, True, "head")
    fc = [b.constant("fc.w", weights["_fc.weight"]), b.constant("fc.b", weights["_fc.bias"])]
    b.nodes += [
        helper.make_node("GlobalAveragePool", [x], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", *fc], ["logits"], name="fc", transB=1),
    ]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    inputs, outputs = [value("input", [1, 3, SIDE, SIDE])], [value("logits", [1, 1000])]
    graph = helper.make_graph(b.nodes, "efficientnet_lite0", inputs, outputs, b.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def images(folder):
    for file in sorted(glob.glob(os.path.join(folder, "*"))):
        grey = np.asarray(Image.open(file).convert("L").resize((SIDE, SIDE)), np.float32)
        yield np.repeat(((grey - 127) / 128)[None, None], 3, 1)


class Reader(CalibrationDataReader):
    def __init__(self, folder):
        self.images = images(folder)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"input": image}


def logits(path, folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(["logits"], {name: image})[0] for image in images(folder)])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", required=True)
    p.add_argument("--calibrate", required=True)
    p.add_argument("--judge", required=True)
    p.add_argument("--work", default="peers-work")
    p.add_argument("--quantize", default="target/release/quantize")
    p.add_argument("--methods", default="MinMax,Percentile,Entropy")
    args = p.parse_args()
    os.makedirs(args.work, exist_ok=True)
    at = lambda name: os.path.join(args.work, name)
    onnx.save(efficientnet_lite0(read_safetensors(args.weights)), at("float.onnx"))
    with open(at("contract.toml"), "w") as file:
        labels = ", ".join(f'"c{i}"' for i in range(1000))
        file.write(f'labels = [{labels}]\npositive = "c1"\nmean = [127, 127, 127]\nstd = [128, 128, 128]\n')
        file.write('unit = "0 to 255"\nactivation = "softmax"\n')
    truth = logits(at("float.onnx"), args.judge)

    def row(name, path, seconds):
        found = logits(path, args.judge)
        agree = (truth.argmax(1) == found.argmax(1)).mean()
        ratio = 10 * np.log10((truth**2).sum() / ((truth - found) ** 2).sum())
        print(f"| {name} | {agree:.1%} | {ratio:.2f} dB | {seconds:.0f} s |", flush=True)

    print(f"{len(truth)} images, onnxruntime {ort.__version__}\n")
    print("| quantiser | same class as float | logits | time |\n| --- | --- | --- | --- |")
    start = time.time()
    ours = [args.quantize, at("float.onnx"), "--calibrate", args.calibrate, "--contract", at("contract.toml"), "-q", "--force"]
    subprocess.run(ours, check=True, stdout=subprocess.DEVNULL)
    row("Hilum", at("float.int8.onnx"), time.time() - start)
    for method in args.methods.split(","):
        start = time.time()
        quantize_static(
            at("float.onnx"),
            at(method + ".onnx"),
            Reader(args.calibrate),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )
        row(f"ONNX Runtime, {method}", at(method + ".onnx"), time.time() - start)


if __name__ == "__main__":
    main()
