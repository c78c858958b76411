#!/usr/bin/env python3
"""How exact int8 is: ours and other quantisers on the same networks and the same calibration images.

Builds networks of 1000 classes (EfficientNet-Lite0, MobileNetV2) as ONNX from their PyTorch weights, or takes a float ONNX
of host-train, and quantises it with `quantize`, with onnxruntime.quantization (per channel, QDQ; MinMax, Percentile,
Entropy) and, where they are installed, with NNCF (`nncf`) and Intel Neural Compressor (`onnx-neural-compressor`). Runs
all in ONNX Runtime and prints agreement of the likeliest class with the float model and the signal-to-noise ratio of the
logits.

    pip install numpy pillow onnx onnxruntime nncf onnx-neural-compressor
    python3 quantize/benches/peers.py --network efficientnet-lite0 --weights efficientnet_lite0_imagenet.safetensors \
        --calibrate DIR --judge DIR
    python3 quantize/benches/peers.py --model runs/x/model.onnx --calibrate DIR --judge DIR
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
# MobileNetV2: expansion, output channels, repetitions, first stride.
MOBILENET = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


def read_safetensors(path):
    with open(path, "rb") as file:
        head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensor = lambda t: np.frombuffer(data[slice(*t["data_offsets"])], np.float32).reshape(t["shape"]).copy()
    return {name: tensor(t) for name, t in head.items() if name != "__metadata__"}


class Builder:
    def __init__(self, weights, epsilon):
        self.weights = weights
        self.epsilon = epsilon
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
        scale = w[norm + ".weight"] / np.sqrt(w[norm + ".running_var"] + self.epsilon)
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


def inverted_residuals(b, x, side, table, first, names):
    """Blocks of `table`, the first one called by number `first`; `names(block, expands)` are those of the weights of expansion,
    depthwise and projecting convolution, each with its norm."""
    channels, block = 32, first
    for expand, to, repeat, first_stride, kernel in table:
        for i in range(repeat):
            stride = first_stride if i == 0 else 1
            expansion, depthwise, projection = names(block, expand > 1)
            hidden, y = channels * expand, x
            if expand > 1:
                y, _ = b.conv(y, *expansion, 1, 1, 1, side, True, f"b{block}e")
            y, inner = b.conv(y, *depthwise, kernel, stride, hidden, side, True, f"b{block}d")
            y, _ = b.conv(y, *projection, 1, 1, 1, inner, False, f"b{block}p")
            if stride == 1 and channels == to:
                b.nodes.append(helper.make_node("Add", [y, x], [f"b{block}a"], name=f"b{block}a"))
                y = f"b{block}a"
            x, channels, side, block = y, to, inner, block + 1
    return x, side


def efficientnet_lite0(weights):
    def names(block, _):
        layer = lambda conv, norm: (f"_blocks.{block}.{conv}", f"_blocks.{block}.{norm}")
        return layer("_expand_conv", "_bn0"), layer("_depthwise_conv", "_bn1"), layer("_project_conv", "_bn2")

    b = Builder(weights, 1e-3)
    x, side = b.conv("input", "_conv_stem", "_bn0", 3, 2, 1, SIDE, True, "stem")
    x, side = inverted_residuals(b, x, side, TABLE, 0, names)
    x, _ = b.conv(x, "_conv_head", "_bn1", 1, 1, 1, side, True, "head")
    return classifier(b, x, "_fc", "efficientnet_lite0")


def mobilenet_v2(weights):
    def names(block, expands):
        layer = lambda conv, norm: (f"features.{block}.conv.{conv}", f"features.{block}.conv.{norm}")
        k = 1 if expands else 0
        return layer("0.0", "0.1"), layer(f"{k}.0", f"{k}.1"), layer(k + 1, k + 2)

    b = Builder(weights, 1e-5)
    x, side = b.conv("input", "features.0.0", "features.0.1", 3, 2, 1, SIDE, True, "stem")
    x, side = inverted_residuals(b, x, side, [[*row, 3] for row in MOBILENET], 1, names)
    x, _ = b.conv(x, "features.18.0", "features.18.1", 1, 1, 1, side, True, "head")
    return classifier(b, x, "classifier.1", "mobilenet_v2")


def classifier(b, x, name, network):
    fc = [b.constant("fc.w", b.weights[name + ".weight"]), b.constant("fc.b", b.weights[name + ".bias"])]
    b.nodes += [
        helper.make_node("GlobalAveragePool", [x], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", *fc], ["logits"], name="fc", transB=1),
    ]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    inputs, outputs = [value("input", [1, 3, SIDE, SIDE])], [value("logits", [1, 1000])]
    graph = helper.make_graph(b.nodes, network, inputs, outputs, b.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Input:
    """What a network reads."""

    def __init__(self, model, mean, std):
        self.name = model.graph.input[0].name
        dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        self.channels, self.side = dims[1], dims[2]
        column = lambda v: np.array(v, np.float32).reshape(-1, 1, 1)
        self.mean, self.std = column(mean), column(std)

    def images(self, folder):
        for file in sorted(glob.glob(os.path.join(folder, "*"))):
            grey = np.asarray(Image.open(file).convert("L").resize((self.side, self.side)), np.float32)
            yield ((np.repeat(grey[None], self.channels, 0) - self.mean) / self.std)[None].astype(np.float32)


class Reader(CalibrationDataReader):
    def __init__(self, given, folder):
        self.name = given.name
        self.images = given.images(folder)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {self.name: image}


def logits(path, given, folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = lambda image: session.run(["logits"], {name: image})[0]
    return np.concatenate([run(image) for image in given.images(folder)])


def by_onnx_runtime(method):
    def quantise(float_model, to, given, folder):
        quantize_static(
            float_model,
            to,
            Reader(given, folder),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )

    return quantise


def by_nncf(float_model, to, given, folder):
    import nncf

    images = list(given.images(folder))
    data = nncf.Dataset(images, lambda image: {given.name: image})
    onnx.save(nncf.quantize(onnx.load(float_model), data, subset_size=len(images)), to)


def by_neural_compressor(float_model, to, given, folder):
    from onnx_neural_compressor import data_reader
    from onnx_neural_compressor.quantization import CalibrationMethod, config, quantize

    class Data(data_reader.CalibrationDataReader):
        def __init__(self):
            self.rewind()

        def rewind(self):
            self.reader = Reader(given, folder)

        def get_next(self):
            return self.reader.get_next()

    static = config.StaticQuantConfig(
        Data(),
        calibrate_method=CalibrationMethod.MinMax,
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        per_channel=True,
    )
    quantize(float_model, to, static)


def by_hilum(program, contract, method):
    def quantise(float_model, to, given, folder):
        stem = to.removesuffix(".onnx")
        call = [program, float_model, "--calibrate", folder, "--method", method, "-o", stem, "-q", "--force"]
        call += ["--contract", contract] if contract else []
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        os.replace(stem + ".int8.onnx", to)

    return quantise


def own_contract(model):
    """Mean and deviation of a model of host-train."""
    properties = {p.key: p.value for p in model.metadata_props}
    contract = json.loads(properties["hilum.input"])
    return contract["mean"], contract["std"]


NETWORKS = {
    "efficientnet-lite0": (efficientnet_lite0, 127.0, 128.0),
    "mobilenet-v2": (mobilenet_v2, 127.5, 127.5),
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--network", choices=list(NETWORKS), default="efficientnet-lite0")
    p.add_argument("--weights", help="weights of --network (safetensors)")
    p.add_argument("--model", help="a float ONNX of host-train instead")
    p.add_argument("--calibrate", required=True)
    p.add_argument("--judge", required=True)
    p.add_argument("--work", default="peers-work")
    p.add_argument("--quantize", default="target/release/quantize")
    p.add_argument("--only", help="quantisers, by commas: hilum, hilum-min-max, MinMax, Percentile, Entropy, nncf, inc")
    args = p.parse_args()
    os.makedirs(args.work, exist_ok=True)
    at = lambda name: os.path.join(args.work, name)
    contract = None
    if args.model:
        model = onnx.load(args.model)
        mean, std = own_contract(model)
    else:
        build, mean, std = NETWORKS[args.network]
        model = build(read_safetensors(args.weights))
        contract = at("contract.toml")
        with open(contract, "w") as file:
            labels = ", ".join(f'"c{i}"' for i in range(1000))
            file.write(f'labels = [{labels}]\npositive = "c1"\nmean = {[mean] * 3}\nstd = {[std] * 3}\n')
            file.write('unit = "0 to 255"\nactivation = "softmax"\n')
    onnx.save(model, at("float.onnx"))
    given = Input(model, mean, std)
    truth = logits(at("float.onnx"), given, args.judge)
    quantisers = {
        "hilum": ("Hilum", by_hilum(args.quantize, contract, "auto")),
        "hilum-min-max": ("Hilum, min-max", by_hilum(args.quantize, contract, "min-max")),
        "MinMax": ("ONNX Runtime, MinMax", by_onnx_runtime("MinMax")),
        "Percentile": ("ONNX Runtime, Percentile", by_onnx_runtime("Percentile")),
        "Entropy": ("ONNX Runtime, Entropy", by_onnx_runtime("Entropy")),
        "nncf": ("NNCF", by_nncf),
        "inc": ("Intel Neural Compressor, MinMax", by_neural_compressor),
    }
    print(f"{args.model and os.path.basename(args.model) or args.network}: {len(truth)} images, onnxruntime {ort.__version__}\n")
    print("| quantiser | same class as float | logits | time |\n| --- | --- | --- | --- |")
    for key in (args.only or ",".join(quantisers)).split(","):
        name, quantise = quantisers[key]
        start = time.time()
        try:
            quantise(at("float.onnx"), at(key + ".onnx"), given, args.calibrate)
        except ImportError as e:
            print(f"| {name} | not installed: {e.name} | | |", flush=True)
            continue
        seconds = time.time() - start
        found = logits(at(key + ".onnx"), given, args.judge)
        agree = (truth.argmax(1) == found.argmax(1)).mean()
        ratio = 10 * np.log10((truth**2).sum() / ((truth - found) ** 2).sum())
        print(f"| {name} | {agree:.1%} | {ratio:.2f} dB | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
