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


def make(at):
    cases = []

    def add(name, labels=2, squashing="", layout="NCHW", half=False, args=()):
        (at / f"{name}.toml").write_text(CONTRACT.format(labels=json.dumps([f"l{i}" for i in range(labels)]), last=f"l{labels - 1}"))
        cases.append({"name": name, "squashing": squashing, "layout": layout, "half": half, "args": list(args)})

    for kind in (sets, outputs, layouts, layers):
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
