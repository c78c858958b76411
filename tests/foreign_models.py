#!/usr/bin/env python3
"""Models of other origins, for the check that quantising them changes nothing but precision.

    python3 foreign_models.py make FOLDER      writes NAME.onnx, images/*.png and cases.json
    python3 foreign_models.py compare NAME     holds NAME.int8.onnx to NAME.onnx on inputs.f32, both in ONNX Runtime
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 32
CONTRACT = 'labels = {labels}\npositive = "{last}"\nmean = [127.5, 127.5, 127.5]\nstd = [64.0, 64.0, 64.0]\n'


class Model:
    """A graph node by node, its weights drawn at random."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, *shape):
        fan_in = np.prod(shape[1:])
        return self.constant(self.random.normal(0, 1.6 / np.sqrt(fan_in), shape))

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [f"t{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, channels, out, kernel=3, **attributes):
        pads = [kernel // 2] * 4
        bias = self.constant(self.random.normal(0, 0.1, out))
        weights = self.weights(out, channels // attributes.get("group", 1), kernel, kernel)
        return self.op("Conv", x, weights, bias, kernel_shape=[kernel] * 2, pads=pads, **attributes)

    def norm(self, x, channels, **attributes):
        draw = lambda low, high: self.constant(self.random.uniform(low, high, channels))
        parts = [draw(0.5, 1.5), draw(-0.2, 0.2), draw(-0.2, 0.2), draw(0.5, 1.5)]
        return self.op("BatchNormalization", x, *parts, **attributes)

    def body(self, x, act=None):
        """Two convolutions, to [1, 16, 8, 8]."""
        act = act or (lambda x: self.op("Relu", x))
        x = act(self.norm(self.conv(x, 3, 8, strides=[2, 2]), 8))
        return act(self.conv(x, 8, 16, strides=[2, 2]))

    def head(self, x, classes=2, channels=16):
        x = self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)
        weights = self.constant(self.random.normal(0, 2, (classes, channels)))
        return self.op("Gemm", x, weights, self.constant(self.random.normal(0, 0.3, classes)), transB=1)

    def save(self, path, output, classes=2, opset=13, shape=(1, 3, SIDE, SIDE), **options):
        kind = options.get("kind", TensorProto.FLOAT)
        inputs = [helper.make_tensor_value_info("x", kind, shape)]
        outputs = [helper.make_tensor_value_info(output, kind, options.get("output_shape", [shape[0], classes]))]
        graph = helper.make_graph(self.nodes, "foreign", inputs, outputs, self.constants)
        opset = helper.make_opsetid(options.get("domain", ""), opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        beside = {"save_as_external_data": True, "location": f"{path.stem}.bin", "size_threshold": 0}
        onnx.save(model, path, **(beside if options.get("external") else {}))


def sets(at, add):
    """Operator sets, with the forms that changed since."""
    for opset in (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 21):
        m = Model(opset)
        bounds = {"min": -0.5, "max": 1.5} if opset < 11 else {}
        limits = [] if opset < 11 else [m.constant(-0.5), m.constant(1.5)]
        y = m.head(m.body("x", lambda x: m.op("Clip", x, *limits, **bounds)))
        m.save(at / f"clip-{opset}.onnx", y, opset=opset)
        add(f"clip-{opset}")
    m = Model(50)
    x = m.op("Pad", m.body("x"), pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.75, mode="constant")
    m.save(at / "pad-10.onnx", m.head(x), opset=10)
    add("pad-10")
    for opset, mode in ((8, "nearest"), (9, "linear"), (9, "nearest")):
        m = Model(60 + opset)
        scales = [1.0, 1.0, 2.0, 2.0]
        x = m.body("x")
        x = m.op("Upsample", x, scales=scales, mode=mode) if opset < 9 else m.op("Upsample", x, m.constant(scales), mode=mode)
        m.save(at / f"upsample-{opset}-{mode}.onnx", m.head(m.conv(x, 16, 16)), opset=opset)
        add(f"upsample-{opset}-{mode}")
    m = Model(70)
    x = m.op("Resize", m.body("x"), m.constant([1.0, 1.0, 2.0, 2.0]), mode="linear")
    m.save(at / "resize-10-linear.onnx", m.head(x), opset=10)
    add("resize-10-linear")
    m = Model(80)
    x = m.body("x")
    x = m.op("Mul", x, m.op("Softmax", m.conv(x, 16, 16, 1), axis=2))
    m.save(at / "softmax-12.onnx", m.head(m.op("Mul", x, m.constant([40.0]))), opset=12)
    add("softmax-12")
    m = Model(90)
    a, b = m.op("Split", m.body("x"), outputs=2, axis=1, split=[8, 8])
    s = m.op("Slice", a, axes=[2, 3], starts=[1, 1], ends=[7, 7])
    t = m.op("Slice", b, axes=[2, 3], starts=[1, 1], ends=[7, 7])
    x = m.op("ReduceMean", m.op("Add", s, t), axes=[2, 3], keepdims=1)
    x = m.op("Squeeze", x, axes=[2, 3])
    y = m.op("Gemm", x, m.constant(m.random.normal(0, 2, (2, 8))), m.constant([0.1, -0.1]), transB=1)
    m.save(at / "split-slice-squeeze-9.onnx", y, opset=9)
    add("split-slice-squeeze-9")
    m = Model(95)
    m.save(at / "ai-onnx-12.onnx", m.head(m.body("x")), opset=12, domain="ai.onnx")
    add("ai-onnx-12")

    for name, kernel, options in (
        ("ceil-plain", 2, dict(strides=[2, 2])),
        ("ceil-wide", 3, dict(strides=[2, 2], pads=[1, 0, 0, 1])),
        ("ceil-counts", 3, dict(strides=[2, 2], count_include_pad=1)),
        ("ceil-apart", 2, dict(strides=[3, 3])),
    ):
        m = Model(98)
        x = m.op("AveragePool", m.conv(m.body("x"), 16, 16, 4), kernel_shape=[kernel] * 2, ceil_mode=1, **options)
        m.save(at / f"{name}.onnx", m.head(m.conv(x, 16, 16)))
        add(name, integer=True)

    m = Model(97)
    pool = dict(kernel_shape=[4, 4], strides=[3, 2], pads=[1, 1, 0, 0], ceil_mode=1, count_include_pad=1)
    m.save(at / "ceil-counts-padding.onnx", m.head(m.conv(m.op("AveragePool", m.body("x"), **pool), 16, 16)))
    add("ceil-counts-padding")
    m = Model(96)
    shape = lambda *dims: m.constant(dims, np.int64)
    planes = m.op("Squeeze", m.op("MaxPool", m.body("x"), kernel_shape=[4, 4], strides=[4, 4]), axes=[0])
    weights = m.op("Softmax", m.op("Reshape", planes, shape(1, -1)), axis=1)
    planes = m.op("Mul", m.op("Reshape", planes, shape(1, 16, 2, 2)), m.op("Reshape", weights, shape(1, 16, 2, 2)))
    m.save(at / "row-of-several.onnx", m.head(m.op("Mul", planes, m.constant([40.0]))), opset=12)
    add("row-of-several")
    m = Model(95)
    rows = m.op("Reshape", m.op("MaxPool", m.body("x"), kernel_shape=[4, 4], strides=[4, 4]), m.constant([8, 8], np.int64))
    rows = m.op("Tanh", m.op("Reshape", rows, m.constant([-1, 64], np.int64)))
    y = m.op("Gemm", rows, m.constant(m.random.normal(0, 2, (2, 64))), m.constant([0.1, -0.1]), transB=1)
    m.save(at / "rows-to-row.onnx", y)
    add("rows-to-row")
    m = Model(94)
    m.save(at / "mean-image.onnx", m.head(m.body(m.op("Sub", "x", m.constant(m.random.normal(0, 0.2, (1, 3, 32, 32)))))))
    add("mean-image")
    m = Model(99)
    x = m.op("MaxPool", m.body("x"), kernel_shape=[4, 4], strides=[4, 4])
    rows = m.op("Reshape", m.conv(x, 16, 2, 1), m.constant([-1, 2], np.int64))
    m.save(at / "several-rows.onnx", m.op("ReduceMean", rows, axes=[0], keepdims=1))
    add("several-rows")


def outputs(at, add):
    """What an output means."""
    for name, kind, classes in (("sigmoid", "Sigmoid", 1), ("fourteen-sigmoids", "Sigmoid", 14), ("softmax", "Softmax", 3)):
        m = Model(100 + classes)
        y = m.op(kind, m.head(m.body("x"), classes))
        m.save(at / f"{name}.onnx", y, classes)
        add(name, labels=max(classes, 2), squashing=kind)
    m = Model(110)
    y = m.op("LogSoftmax", m.op("Dropout", m.op("Identity", m.head(m.body("x"), 3))))
    m.save(at / "log-softmax.onnx", m.op("Identity", y), 3)
    add("log-softmax", labels=3, squashing="LogSoftmax")


def layouts(at, add):
    """Inputs: open dimensions, channels last, half precision, weights beside."""
    m = Model(200)
    x = m.body("x")
    x = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    batch = m.op("Gather", m.op("Shape", x), m.constant(0, np.int64), axis=0)
    shape = m.op("Concat", m.op("Unsqueeze", batch, m.constant([0], np.int64)), m.constant([-1], np.int64), axis=0)
    x = m.op("Reshape", x, shape)
    x = m.op("MatMul", x, m.op("Transpose", m.constant(m.random.normal(0, 0.3, (3, 256))), perm=[1, 0]))
    m.save(at / "dynamic-batch.onnx", m.op("Add", x, m.constant([0.1, 0.2, 0.3])), 3, shape=("batch", 3, SIDE, SIDE))
    add("dynamic-batch", labels=3)
    m = Model(205)
    y = m.head(m.body("x"))
    m.save(at / "output-unknown.onnx", y, shape=("n", 3, SIDE, SIDE), output_shape=["a", "b"])
    add("output-unknown")
    for name, shape in (("open-sides", (1, 3, "h", "w")), ("open-negative", (-1, 3, -1, -1)), ("open-absent", None)):
        m = Model(210)
        y = m.head(m.body("x"))
        if shape:
            m.save(at / f"{name}.onnx", y, shape=shape, output_shape=[1, 2])
        else:
            m.save(at / f"{name}.onnx", y)
            model = onnx.load(at / f"{name}.onnx")
            model.graph.input[0].type.tensor_type.ClearField("shape")
            onnx.save(model, at / f"{name}.onnx")
        add(name, args=["--size", str(SIDE)])
    m = Model(220)
    x = m.body(m.op("Transpose", "x", perm=[0, 3, 1, 2]))
    x = m.op("Squeeze", m.op("GlobalAveragePool", x), m.constant([2, 3], np.int64))
    x = m.op("MatMul", x, m.constant(m.random.normal(0, 2, (16, 2))))
    y = m.op("Softmax", m.op("Add", x, m.constant([0.2, -0.2])), axis=-1)
    m.save(at / "keras.onnx", y, shape=("unk__1", SIDE, SIDE, 3))
    add("keras", squashing="Softmax", layout="NHWC")
    m = Model(225)
    x = m.op("Sub", m.op("Mul", "x", m.constant(0.5)), m.constant([0.1, 0.2, 0.3]))
    m.save(at / "keras-rescaling.onnx", m.head(m.body(m.op("Transpose", x, perm=[0, 3, 1, 2]))), shape=(1, SIDE, SIDE, 3))
    add("keras-rescaling", layout="NHWC")
    for name, whole in (("half-weights", False), ("half", True)):
        m = Model(230)
        y = m.head(m.body("x"))
        if whole:
            m.constants = [numpy_helper.from_array(numpy_helper.to_array(c).astype(np.float16), c.name) for c in m.constants]
            m.save(at / f"{name}.onnx", y, kind=TensorProto.FLOAT16)
        else:
            wide, m.constants, casts = m.constants, [], []
            for c in wide:
                m.constants.append(numpy_helper.from_array(numpy_helper.to_array(c).astype(np.float16), c.name + "h"))
                casts.append(helper.make_node("Cast", [c.name + "h"], [c.name], to=TensorProto.FLOAT))
            m.nodes = casts + m.nodes
            m.save(at / f"{name}.onnx", y)
        add(name, half=whole)
    m = Model(240)
    m.save(at / "beside.onnx", m.head(m.body("x")), external=True)
    add("beside")


def layers(at, add):
    """Layers and names that others use."""
    m = Model(300)
    x = m.body("x")
    pooled = m.op("GlobalAveragePool", x)
    x = m.op("Mul", x, m.op("Sigmoid", m.conv(pooled, 16, 16, 1)))
    plane = m.op("ReduceMean", x, axes=[1], keepdims=1)
    x = m.op("Mul", x, m.op("Sigmoid", m.conv(plane, 1, 1, 7)))
    m.save(at / "cbam.onnx", m.head(x))
    add("cbam")
    m = Model(310)
    x = m.op("Flatten", m.op("GlobalAveragePool", m.body("x")), axis=1)
    x = m.op("Gemm", x, m.constant(m.random.normal(0, 1, (8, 16))), m.constant(np.zeros(8)), transB=1)
    x = m.op("Relu", m.norm(x, 8))
    m.save(at / "norm-of-rows.onnx", m.op("Gemm", x, m.constant(m.random.normal(0, 1, (2, 8))), transB=1))
    add("norm-of-rows")
    m = Model(320)
    x = m.body("x")
    shape = m.op("Constant", value_ints=[0, -1])
    x = m.op("Reshape", m.op("GlobalAveragePool", x), shape)
    y = m.op("Gemm", x, m.constant(m.random.normal(0, 2, (2, 16))), m.constant([0.1, 0.2]), transB=1)
    names = {m.nodes[0].output[0]: "image", m.nodes[2].output[0]: "logits", m.nodes[3].output[0]: "map"}
    for node in m.nodes:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
    m.save(at / "taken-names.onnx", y)
    add("taken-names")


def same_padding(m, x, kernel, stride):
    """TensorFlow's padding as PyTorch's exporter writes it: computed from the shape of what is padded."""
    ints = lambda *values: m.constant(values, np.int64)
    sides = []
    for axis in (2, 3):
        side = m.op("Cast", m.op("Gather", m.op("Shape", x), m.constant(axis, np.int64), axis=0), to=TensorProto.FLOAT)
        last = m.op("Sub", m.op("Ceil", m.op("Div", side, m.constant(float(stride)))), m.constant(1.0))
        reach = m.op("Add", m.op("Mul", last, m.constant(float(stride))), m.constant(float(kernel)))
        all_of_it = m.op("Cast", m.op("Clip", m.op("Sub", reach, side), m.constant(0.0)), to=TensorProto.INT64)
        before = m.op("Div", all_of_it, m.constant(2, np.int64))
        sides.append([before, m.op("Sub", all_of_it, before)])
    (top, bottom), (left, right) = sides
    lengths = [m.op("Unsqueeze", length, ints(0)) for length in (left, right, top, bottom)]
    zeros = m.op("ConstantOfShape", ints(4), value=numpy_helper.from_array(np.array([0], np.int64)))
    pairs = m.op("Reshape", m.op("Concat", *lengths, zeros, axis=0), ints(-1, 2))
    turned = m.op("Slice", pairs, ints(-1), ints(-(2**63) + 1), ints(0), ints(-1))
    pads = m.op("Reshape", m.op("Transpose", turned, perm=[1, 0]), ints(-1))
    return m.op("Pad", x, m.op("Cast", pads, to=TensorProto.INT64), m.constant(0.0), mode="constant")


def written_out(at, add):
    """What exporters compute though it is constant, or one operator."""
    for name, shape in (("same-padding", (1, 3, SIDE, SIDE)), ("same-padding-open", ("batch", 3, SIDE, SIDE))):
        m = Model(400)
        unpadded = lambda x, channels, out, kernel: m.op(
            "Conv", x, m.weights(out, channels, kernel, kernel), kernel_shape=[kernel] * 2, strides=[2, 2]
        )
        x = m.op("Relu", m.norm(unpadded(same_padding(m, "x", 3, 2), 3, 8, 3), 8))
        x = m.op("Relu", unpadded(same_padding(m, x, 5, 2), 8, 16, 5))
        m.save(at / f"{name}.onnx", m.head(x), opset=17, shape=shape)
        add(name, integer=True)
    m = Model(410)
    relu6 = lambda x: m.op("Min", m.op("Max", x, m.constant(0.0)), m.constant(6.0))
    gate = lambda x: relu6(m.op("Add", x, m.constant(3.0)))
    swish = lambda x: m.op("Div", m.op("Mul", x, gate(x)), m.constant(6.0))
    x = m.body("x", swish)
    x = m.op("Mul", x, m.op("Mul", gate(x), m.constant(1 / 6)))
    pooled = m.op("GlobalAveragePool", relu6(m.conv(x, 16, 16)))
    m.save(at / "functions.onnx", m.head(m.op("Mul", x, m.op("Div", gate(m.conv(pooled, 16, 16, 1)), m.constant(6.0)))))
    add("functions", integer=True)
    m = Model(420)
    each = lambda low, high, n: m.constant(m.random.uniform(low, high, (1, n, 1, 1)))
    x = m.op("Div", m.op("Sub", "x", each(-0.2, 0.2, 3)), each(0.8, 1.2, 3))
    x = m.op("Relu", m.op("Add", m.op("Mul", m.conv(x, 3, 8, strides=[2, 2]), each(0.5, 1.5, 8)), each(-0.2, 0.2, 8)))
    x = m.op("Sub", m.constant(1.0), m.op("Mul", m.conv(x, 8, 16, strides=[2, 2]), m.constant(0.5)))
    y = m.op("Div", m.head(m.op("Relu", x)), m.constant(1.5))
    m.save(at / "scales.onnx", y)
    add("scales", integer=True)
    for name, pads, axes, opset in (("pad", [0, 0, 0, 0, 0, 0, 1, 1], (), 13), ("pad-of-axes", [1, 0, 0, 1], (-2, -1), 18)):
        m = Model(430)
        axes = [m.constant(axes, np.int64)] if axes else []
        x = m.op("Pad", m.body("x"), m.constant(pads, np.int64), m.constant(0.0), *axes)
        x = m.op("Conv", x, m.weights(16, 1, 3, 3), kernel_shape=[3, 3], strides=[2, 2], group=16)
        m.save(at / f"{name}.onnx", m.head(x), opset=opset)
        add(name, integer=True)


def renamed(m, names):
    for node in m.nodes:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
    for constant in m.constants:
        constant.name = names.get(constant.name, constant.name)


def easily_confused(at, add):
    """What looks like something that is rewritten, or is called like a part of it."""
    m = Model(500)
    a = m.op("Mul", m.conv(m.body("x"), 16, 16), m.constant(3.0))
    w = m.weights(16, 16, 3, 3)
    y = m.op("Conv", m.op("Relu", a), w, kernel_shape=[3, 3], pads=[1] * 4)
    z = m.op("Pow", m.op("Relu", m.op("Sigmoid", y)), m.constant(2.0))
    scale = m.constants[-1].name
    output = m.head(z)
    renamed(m, {a: "a", w: "a/weight", y: "layer", scale: "layer/scale"})
    m.save(at / "names-of-parts.onnx", output)
    add("names-of-parts")
    m = Model(510)
    same = m.op("Dropout", m.conv(m.body("x"), 16, 16))
    m.save(at / "read-twice.onnx", m.head(m.op("Add", m.op("Mul", same, m.constant(2.0)), m.op("Sigmoid", same))))
    add("read-twice")
    m = Model(520)
    x = m.body("x")
    plane = m.op("ReduceMean", x, axes=[1], keepdims=1)
    m.save(at / "plane-to-channels.onnx", m.head(m.op("Mul", plane, m.constant(m.random.uniform(-2, 2, (1, 16, 1, 1))))))
    add("plane-to-channels")
    m = Model(530)
    x = m.body("x")
    bias = m.op("Clip", m.op("Reshape", m.op("GlobalAveragePool", x), m.constant([16], np.int64)), m.constant(0.1))
    x = m.op("Conv", x, m.weights(16, 16, 3, 3), bias, kernel_shape=[3, 3])
    m.save(at / "bias-of-the-image.onnx", m.head(m.op("Mul", x, m.constant(m.random.uniform(0.5, 2, (1, 16, 1, 1))))))
    add("bias-of-the-image")
    # A layer in float with a weight that is large and reads nothing: one int8 scale for all weights would lose the others.
    m = Model(540)
    bias = np.zeros(16)
    bias[0] = -1000
    x = m.op("Conv", m.body("x"), m.weights(16, 16, 3, 3), m.constant(bias), kernel_shape=[3, 3])
    weights = m.random.normal(0, 0.1, (16, 16, 3, 3))
    weights[:, 0, 0, 0] = 50
    x = m.op("Conv", m.op("Relu", x), m.constant(weights), kernel_shape=[3, 3])
    name = x
    m.save(at / "kept-float.onnx", m.head(m.op("Relu", x)))
    add("kept-float", args=["--float", name])


def make(at):
    cases = []

    def add(name, labels=2, squashing="", layout="NCHW", half=False, args=(), integer=False):
        (at / f"{name}.toml").write_text(CONTRACT.format(labels=json.dumps([f"l{i}" for i in range(labels)]), last=f"l{labels - 1}"))
        cases.append({"name": name, "squashing": squashing, "layout": layout, "half": half, "args": list(args), "integer": integer})

    for kind in (sets, outputs, layouts, layers, written_out, easily_confused):
        kind(at, add)
    (at / "cases.json").write_text(json.dumps(cases))
    (at / "images").mkdir()
    random = np.random.default_rng(1)
    for i in range(24):
        coarse = Image.fromarray(random.integers(0, 256, (4 + i % 5, 4 + i % 7), np.uint8))
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(at / "images" / f"{i}.png")


def squash(logits, kind):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exp / exp.sum(axis=1, keepdims=True)
    return {"": logits, "Sigmoid": 1 / (1 + np.exp(-logits)), "Softmax": softmax, "LogSoftmax": np.log(softmax)}[kind]


def compare(name):
    case = next(c for c in json.loads(pathlib.Path("cases.json").read_text()) if c["name"] == name)
    images = np.fromfile("inputs.f32", "<f4").reshape(-1, 1, 3, SIDE, SIDE)

    def run(file, prepare=lambda x: x):
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        first = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {first: prepare(x)})[0].reshape(1, -1) for x in images]).astype(np.float32)

    def theirs(x):
        x = x.transpose(0, 2, 3, 1) if case["layout"] == "NHWC" else x
        return x.astype(np.float16) if case["half"] else x

    wanted = run(f"{name}.onnx", theirs)
    given = squash(run(f"{name}.int8.onnx"), case["squashing"])
    spread = (wanted.max() - wanted.min()) or 1.0
    worst = np.abs(wanted - given).max() / spread
    print(f"{name}: int8 differs from float by {worst:.3f} of the range {spread:.3g}")
    assert worst < 0.1, f"{name}: {worst}\n{wanted[:3]}\n{given[:3]}"


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[2])) if sys.argv[1] == "make" else compare(sys.argv[2])
