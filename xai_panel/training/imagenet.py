"""Start a MobileNetV2 from the published ImageNet weights (Sandler et al. 2018; © Google, Apache-2.0).

The checkpoint is the 8-bit TFLite file `mobilenet_v2_1.0_224_quant.tflite`, with batch norm folded into the 52
convolutions. It is dequantised, moved to torchvision's layout and input normalisation, and the batch norms are put back
without changing the function, so that fine-tuning can use them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xai_panel.models.frontends import IMAGENET_MEAN, IMAGENET_STD


def _tensors(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (out, in, h, w) and bias of each convolution, in forward order."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}

    def real(index: int) -> np.ndarray:
        scale, zero = details[index]["quantization"]
        return (interpreter.get_tensor(index).astype(np.float32) - zero) * np.float32(scale)

    pairs = []
    for operator in interpreter._get_ops_details():  # the public API lists tensors, not the order of the operators
        if operator["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel, bias = real(operator["inputs"][1]), real(operator["inputs"][2])
            axes = (3, 0, 1, 2) if operator["op_name"] == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
            pairs.append((kernel.transpose(axes), bias))
    return pairs


def initialise(network: nn.Module, path: Path) -> None:
    """Fill all but the head of torchvision's MobileNetV2 from the TFLite file, in place."""
    pairs = _tensors(path)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if len(pairs) != len(convolutions) + 1:
        raise ValueError(f"{path.name}: {len(pairs)} convolutions; MobileNetV2 has {len(convolutions)} and a head")
    with torch.no_grad():
        for position, (convolution, norm, (kernel, bias)) in enumerate(zip(convolutions, norms, pairs, strict=False)):
            if position == 0:
                # the checkpoint takes (255·v − 128)/128 where torchvision's input is (v − mean)/std
                gain = 255.0 * np.array(IMAGENET_STD) / 128.0
                shift = (255.0 * np.array(IMAGENET_MEAN) - 128.0) / 128.0
                bias = bias + np.einsum("oihw,i->o", kernel, shift)
                kernel = kernel * gain[None, :, None, None]
            convolution.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float32)))
            norm.weight.fill_(float(np.sqrt(1.0 + norm.eps)))
            norm.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
            norm.running_mean.zero_()  # type: ignore[union-attr]
            norm.running_var.fill_(1.0)  # type: ignore[union-attr]


def restore_batch_norm(network: nn.Module, inputs: torch.Tensor) -> None:
    """Give each folded batch norm the statistics of `inputs` (n, c, h, w) and the affine part that undoes them.

    The function stays what it was, but training mode now normalises by plausible statistics instead of destroying it.
    """

    def measure(norm: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        values = args[0]
        mean = values.mean(dim=(0, 2, 3))
        variance = values.var(dim=(0, 2, 3), unbiased=False)
        norm.bias.add_(mean)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    network.eval()
    handles = [m.register_forward_pre_hook(measure) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        for handle in handles:
            handle.remove()
