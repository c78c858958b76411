#!/usr/bin/env python3
"""Exports torchvision's MobileNetV2, ResNet50, DenseNet121, ResNeXt50, SqueezeNet and ShuffleNet as PyTorch exports them, with random weights.

    pip install torch torchvision onnx onnxscript
    python3 torchvision_models.py            # writes NAME.onnx to the current folder

Random weights serve to compare arithmetic and speed; batch normalisation gets statistics that are not the identity.
"""
import torch
import torchvision

torch.manual_seed(0)
for name in ("mobilenet_v2", "resnet50", "densenet121", "resnext50_32x4d", "squeezenet1_1", "shufflenet_v2_x1_0"):
    network = getattr(torchvision.models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    image = (torch.zeros(1, 3, 224, 224),)
    torch.onnx.export(network, image, f"{name}.onnx", input_names=["input"], output_names=["output"], external_data=False)
