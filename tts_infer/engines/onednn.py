"""oneDNN: networks on a CPU, with weights packed once, and with activation and residual sum inside the products.

torch's own linear layers call MKL, which is about half as fast, and which sums in another order if there are fewer
rows. Packed products give a row the same bits whatever the other rows are, so pieces, batches and streams are equal to
the last bit. The operators are private to torch (its compiler emits them). Only this file uses them, and
`unsupported_reason` checks that they exist and give the right result. The modules in `tts_infer.vocoders` remain the
reference.

Packed weights are never trained, moved or stored, so the classes here are plain callables. A network of them runs as
one call of TorchScript.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.dsp.script import unoptimised
from tts_infer.engines.engine import not_on
from tts_infer.engines.torchscript import OneCall, Packed
from tts_infer.errors import first_sentence
from tts_infer.sentences import Sentence
from tts_infer.stages import Stage, Tensors, relative_error
from tts_infer.vocoders.heads import MAX_MAGNITUDE, ISTFTHead
from tts_infer.vocoders.norms import AdaLayerNorm
from tts_infer.vocoders.padding import HALF_KERNEL, KERNEL_SIZE, CachedPadding, conv_padding, crop
from tts_infer.vocoders.vocos import ConvNeXtBlock, VocosBackbone

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TAPS_AT_ONCE = 2
# The operators, compiled: called from Python, they cannot be recorded, because of their empty lists.
_OPERATORS = """
def product(x, weight, bias):
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
def gelu_of_product(x, weight, bias):
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
def sum_of_product(x, other, weight, bias):
    return torch.ops.mkldnn._linear_pointwise(x, other, weight, bias, "add")
def depthwise(image, weight, bias, zeros: int):
    one, groups = [1, 1], bias.numel()
    return torch.ops.mkldnn._convolution_pointwise(image, weight, bias, [0, zeros], one, one, groups, "none", [], "")
"""
# Largest allowed difference of the probe from float64, relative to the largest value: rounding of float32, and 8 bits.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


@cache
def _operators() -> Any:
    return torch.jit.CompilationUnit(_OPERATORS)


@cache
def unsupported_reason(dtype: DTypeName) -> str | None:
    """Say why packed products of `dtype` cannot be used in this process; None if they can."""
    if dtype not in _DTYPES:
        return Sentence("no packed products in {dtype}", code="packed-dtype", dtype=dtype)
    try:
        with unoptimised():
            errors = [relative_error(got, expected) for got, expected in _probes(dtype)]
    except (AttributeError, RuntimeError, NotImplementedError, TypeError) as failure:
        text = "oneDNN's packed products do not run here: {failure}"
        return Sentence(text, code="packed-fail", failure=first_sentence(failure))
    wrong = [error for error in errors if not error <= _TOLERANCE[dtype]]  # also true for NaN
    if wrong:
        text = "oneDNN's packed products are wrong here, by {error:.1e} of the peak"
        return Sentence(text, code="packed-wrong", error=wrong[0])
    return None


def _probes(dtype: DTypeName) -> Iterator[tuple[Tensor, Tensor]]:
    """For each operator its result of a small input, and the right result in float64."""
    n = torch.arange(96 * 64, device="cpu")
    weight, waves = torch.sin((n * n % 997).to(torch.float32)).reshape(96, 64), torch.cos(n.to(torch.float32))
    x, bias, other = waves[: 9 * 64].reshape(1, 9, 64), waves[:96], 5 * waves[: 9 * 96].reshape(1, 9, 96)
    layer = PackedLinear(weight, bias, dtype)
    product = F.linear(x.double(), weight.double(), bias.double())
    yield layer(x), product
    yield layer.gelu(x), F.gelu(product)
    yield layer.add(x, other), product + other
    taps, offsets = weight[:64, None, :KERNEL_SIZE], bias[:64]
    kernels, few = weight[:, :56].reshape(96, 8, KERNEL_SIZE), x[..., :8]
    for zeros in (0, HALF_KERNEL):
        mixed = F.conv1d(x.double().transpose(1, 2), taps.double(), offsets.double(), padding=zeros, groups=64)
        yield PackedDepthwise(taps, offsets)(x, zeros), mixed.transpose(1, 2)
        mixed = F.conv1d(few.double().transpose(1, 2), kernels.double(), bias.double(), padding=zeros)
        yield PackedConvolution(kernels, bias)(few.contiguous(), zeros), mixed.transpose(1, 2)


class PackedLinear(Packed):
    """A linear layer on the CPU, with its weight packed in the layout of oneDNN's kernels.

    Shape: (..., in) -> (..., out), in the packed dtype
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: DTypeName) -> None:
        self.dtype = _DTYPES[dtype]
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(self.dtype).contiguous(), None)
        self.bias = bias.to(self.dtype)
        self._operators = _operators()

    def __call__(self, x: Tensor) -> Tensor:
        return self._compute("product", x.to(self.dtype))

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of the product."""
        return self._compute("gelu_of_product", x.to(self.dtype))

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """The product plus `other`, summed in float32."""
        return self._compute("sum_of_product", x, other) if self.dtype == torch.float32 else other + self(x)

    def _compute(self, operator: str, *given: Tensor) -> Tensor:
        out: Tensor = getattr(self._operators, operator)(*given, self.weight, self.bias)
        return out


class Norm:
    """`nn.LayerNorm` or `AdaLayerNorm` over the last axis. Shape: (B, L, H), number of (B,) or (1,) -> (B, L, H)"""

    def __init__(self, norm: nn.Module) -> None:
        self._choices: Tensors = ()
        if isinstance(norm, AdaLayerNorm):
            self._choices = norm.scale.weight, norm.shift.weight
            self._constants: tuple[Any, ...] = ((norm.dim,), None, None, norm.eps)
        else:
            assert isinstance(norm, nn.LayerNorm)
            self._constants = (norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def __call__(self, x: Tensor, number: Tensor | None = None) -> Tensor:
        normed = torch.layer_norm(x, *self._constants)
        if number is None:
            return normed
        scale, shift = self._choices
        return torch.addcmul(shift[number][:, None], normed, scale[number][:, None])


class PackedConvolution(Packed):
    """A convolution over time, as a sum of matrix products of two taps each.

    The frames of neighbouring taps are contiguous in memory, so they form a row without a copy. One product over all
    taps would be a little faster, but it sums several hundred large terms, and trained networks amplify its rounding.

    Shape: (B, L, C) -> (B, L + 2 (zeros - reach), H)
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        nothing, taps = torch.zeros_like(bias), weight.shape[2]
        self.reach = taps // 2
        self.taps = [(start, min(taps, start + _TAPS_AT_ONCE)) for start in range(0, taps, _TAPS_AT_ONCE)]
        columns = [weight[..., start:stop].transpose(1, 2).flatten(1) for start, stop in self.taps]
        self.parts = [PackedLinear(part, nothing if i else bias, "float32") for i, part in enumerate(columns)]

    def __call__(self, x: Tensor, zeros: int) -> Tensor:
        x = F.pad(x, (0, 0, zeros, zeros))
        length = x.shape[1] - 2 * self.reach
        total: Tensor | None = None
        for (start, stop), linear in zip(self.taps, self.parts, strict=True):
            windows = x[:, start : stop - 1 + length].unfold(1, stop - start, 1).transpose(2, 3).flatten(2)
            total = linear(windows) if total is None else linear.add(windows, total)
        assert total is not None
        return total


class PackedDepthwise(Packed):
    """A depthwise convolution over time. Channels stay last in memory throughout.

    Shape: (B, L, H) -> (B, L + 2 (zeros - reach), H)
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        channels = weight.shape[0]
        image = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        geometry = ([1, 1], [1, 1], channels)  # stride, dilation, groups
        likely = [1, channels, 1, 100]  # oneDNN chooses the layout for this size; it is valid for all
        padding = [0, weight.shape[2] // 2]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(image, padding, *geometry, likely)
        self.bias, self._depthwise = bias, _operators().depthwise

    def __call__(self, x: Tensor, zeros: int) -> Tensor:
        image = x.transpose(1, 2).unsqueeze(2)  # this is a channels-last image without a copy
        mixed: Tensor = self._depthwise(image, self.weight, self.bias, zeros)
        return mixed.squeeze(2).transpose(1, 2)


class PackedBlock(Packed):
    """`ConvNeXtBlock` by packed products. Its layer scale is multiplied into the second linear layer.

    Shape: (B, L + 2 (reach - zeros), H), zeros -> (B, L, H)
    """

    def __init__(self, block: ConvNeXtBlock, dtype: DTypeName) -> None:
        scale, self.reach = block.gamma, block.reach
        assert block.dwconv.bias is not None
        self.dwconv, self.norm = PackedDepthwise(block.dwconv.weight, block.dwconv.bias), Norm(block.norm)
        self.pwconv1 = PackedLinear(block.pwconv1.weight, block.pwconv1.bias, dtype)
        self.pwconv2 = PackedLinear(scale[:, None] * block.pwconv2.weight, scale * block.pwconv2.bias, dtype)

    def __call__(self, x: Tensor, zeros: int, number: Tensor | None = None) -> Tensor:
        inner = self.pwconv1.gelu(self.norm(self.dwconv(x, zeros), number))
        return self.pwconv2.add(inner, crop(x, self.reach - zeros))


class PackedBackbone(Packed):
    """`VocosBackbone` by packed products, with the same inputs and outputs.

    Args:
        backbone: in float32 on the CPU; its weights are copied.
        dtype: of the products in the blocks. The embedding stays in float32, because log-mels need more than 8 bits.

    Shape: (B, C, L) -> (B, L, H)
    """

    frame_axis = 2

    def __init__(self, backbone: VocosBackbone, dtype: DTypeName) -> None:
        assert backbone.embed.bias is not None
        self.reaches = backbone.reaches
        self.embed = PackedConvolution(backbone.embed.weight, backbone.embed.bias)
        self.norm, self.final_layer_norm = Norm(backbone.norm), Norm(backbone.final_layer_norm)
        self.convnext = [PackedBlock(cast(ConvNeXtBlock, block), dtype) for block in backbone.convnext]

    def __call__(
        self,
        features: Tensor,
        valid: Tensor | None = None,
        history: Tensors | None = None,
        bandwidth_id: Tensor | None = None,
    ) -> Any:
        padding = conv_padding(self.reaches, valid, history)
        x = self.norm(self.embed(*padding(0, features.transpose(1, 2))), bandwidth_id)
        for layer, block in enumerate(self.convnext, start=1):
            x, zeros = padding(layer, x)  # the old x is freed before the block runs
            x = block(x, zeros, bandwidth_id)
        hidden = self.final_layer_norm(x)
        return (hidden, tuple(padding.history)) if isinstance(padding, CachedPadding) else hidden


class PackedHead(Packed):
    """`ISTFTHead` by packed products: one for log-magnitude and one for phase, so that each result is contiguous.

    Shape: (B, L, H) -> real, imag of (B, N, L), float32
    """

    frame_axis = 1

    def __init__(self, head: ISTFTHead, dtype: DTypeName) -> None:
        weights, biases = head.out.weight.chunk(2), head.out.bias.chunk(2)
        self.log_magnitude = PackedLinear(weights[0], biases[0], dtype)
        self.phase = PackedLinear(weights[1], biases[1], dtype)

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = self.log_magnitude(hidden).float().exp_().clamp_max_(MAX_MAGNITUDE)
        phase = self.phase(hidden).float()
        imag = phase.sin().mul_(magnitude)
        return phase.cos_().mul_(magnitude).transpose(1, 2), imag.transpose(1, 2)


# Modules that have a packed form.
PACKED: dict[type[nn.Module], Any] = {VocosBackbone: PackedBackbone, ISTFTHead: PackedHead}


class OneDNNEngine:
    """oneDNN's packed products. Entry of `ENGINES`."""

    automatic = True
    package = None
    examined = True

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if device != CPU:
            return not_on("oneDNN", device)
        if type(stage.module) not in PACKED:
            module = type(stage.module).__name__
            return Sentence("oneDNN has no packed form of {module}", code="packed-form", module=module)
        return unsupported_reason(dtype)

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        return stage.using(OneCall(PACKED[type(stage.module)](stage.module.to(device), dtype)))

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None
