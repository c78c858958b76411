#!/usr/bin/env python3
"""Logits of an int8 ONNX model in ONNX Runtime, for the check that the device computes the same.

    python3 onnxruntime_logits.py model.int8.onnx input.f32 > logits.json

input.f32 holds little-endian float32, as many whole inputs as there are; the output is a JSON list of lists.
"""
import json
import sys

import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
# Without VNNI, ONNX Runtime's fast kernel saturates at 16 bits and is not exact; this asks for the one that is.
options.add_session_config_entry("session.x64quantprecision", "1")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
tensor = session.get_inputs()[0]
shape = [d if isinstance(d, int) else 1 for d in tensor.shape]
inputs = np.fromfile(sys.argv[2], dtype="<f4").reshape([-1, *shape[1:]])
names = [o.name for o in session.get_outputs()]
logits = names.index("logits")
print(json.dumps([[float(v) for v in session.run(None, {tensor.name: x[None]})[logits].ravel()] for x in inputs]))
