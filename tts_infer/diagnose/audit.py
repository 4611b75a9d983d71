"""Operator audit: what each stage would ask of an Apple GPU, judged without one.

A stage runs on the CPU while every operator it dispatches is recorded the way the MPS backend of a given torch
release would receive it: an operator with an MPS kernel is recorded as it stands; one that is composed of others is
taken apart, and its parts are judged; the rest is missing there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tts_infer.config import SpectralMethod
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.refine import Refinement, Spectrum
from tts_infer.runtime.incremental import BackboneStream, ISTFTStream, RefinementStream
from tts_infer.vocoders.vocos import RaggedEdges, Vocos, make_istft

_PASSES = 2  # of refinement: the second one has a pass before it

Kind = Literal["mps", "composite", "none", "absent"]
_KINDS: dict[str, Kind] = {"m": "mps", "c": "composite", "n": "none", "a": "absent"}
_COMPOSITE_KEYS = (
    DispatchKey.CompositeImplicitAutograd,
    DispatchKey.CompositeExplicitAutograd,
    DispatchKey.CompositeExplicitAutogradNonFunctional,
)
# Composites that pick a kernel by the device: taken apart on a CPU, they would name the CPU's.
_DEVICE_KERNELS = {
    "convolution": "_mps_convolution",
    "_convolution": "_mps_convolution",
    "complex": "complex.out",
}


def operator_name(operator: OpOverload) -> str:
    """Name and overload, as native_functions.yaml spells them: "add.Tensor"."""
    return operator.name().removeprefix("aten::")


def composite_key(operator: OpOverload) -> DispatchKey | None:
    """The kernel of the installed torch that composes `operator` of others, if there is one."""
    for key in _COMPOSITE_KEYS:
        if torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key):
            return key
    return None


@dataclass(frozen=True)
class OperatorTable:
    """Which operators one torch release has on MPS."""

    release: str
    listed: Mapping[str, Kind]

    def kind(self, operator: OpOverload) -> Kind:
        """What `operator` is there; one that is not listed is composed of others, or foreign to that release."""
        name = operator_name(operator)
        listed = self.listed.get(_DEVICE_KERNELS.get(name, name))
        return listed or ("composite" if composite_key(operator) else "absent")


@cache
def shipped_tables() -> dict[str, OperatorTable]:
    """The tables of the torch releases that the package knows, oldest first.

    Source: native_functions.yaml inside the macOS arm64 wheels of those releases.
    """
    text = (Path(__file__).parent.parent / "assets" / "mps" / "operators.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    histories = [(row[0], row[1:]) for row in rows[1:]]
    return {
        release: OperatorTable(release, {name: _KINDS[history[i]] for history, names in histories for name in names})
        for i, release in enumerate(rows[0][1:])
    }


@cache
def installed_table() -> OperatorTable:
    """The table of the installed torch, read from the native_functions.yaml that it ships."""
    import torchgen
    from torchgen.gen import parse_native_yaml
    from torchgen.model import DispatchKey as GenKey

    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    parsed = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    functions = {str(function.func.name): function for function in parsed.native_functions}
    mps = parsed.backend_indices[GenKey.MPS]
    listed: dict[str, Kind] = {}
    for name, function in functions.items():
        # a structured operator leaves its kernels to its out= variant
        delegate = functions[str(function.structured_delegate)] if function.structured_delegate else function
        if mps.has_kernel(function) or mps.has_kernel(delegate):
            listed[name] = "mps"
        elif not function.has_composite_kernel:
            listed[name] = "none"
    return OperatorTable(f"{torch.__version__} (installed)", listed)


class MPSRecorder(TorchDispatchMode):
    """Records the operators that run inside it, as MPS under `table` would receive them.

    Attributes:
        operators: calls per operator that needs a kernel of its own.
        missing: of these, the ones that the release lacks.
        complex, float64: operators that make tensors of such types.
        syncs: operators that make the host wait for the device.
    """

    def __init__(self, table: OperatorTable) -> None:
        super().__init__()
        self.table = table
        self.operators: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.complex: Counter[str] = Counter()
        self.float64: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self._open: list[OpOverload] = []  # composites that are being taken apart

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name, kind = operator_name(func), self.table.kind(func)
        if _makes_host_wait(func, args, kwargs):
            self.syncs[name] += 1
        # detach is composed of itself: what is already open has no further parts
        key = composite_key(func) if kind == "composite" and func not in self._open else None
        if key is not None:
            self._open.append(func)
            with self:  # a mode is off inside its own handler; the parts are to be seen too
                result = func._op_dk(key, *args, **kwargs)
            self._open.pop()
        else:
            self.operators[name] += 1
            if kind in ("none", "absent"):
                self.missing[name] += 1
            result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.complex[name] += sum(t.is_complex() for t in made)
        self.float64[name] += sum(t.dtype == torch.float64 for t in made)
        return result


def _makes_host_wait(operator: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the host must know values that the device computed: to return them, to know a shape, or to copy them."""
    if operator_name(operator).startswith(("to.", "_to_copy")):
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, (str, torch.device))]
        return any(torch.device(device).type == "cpu" for device in given)
    if operator_name(operator).startswith("index."):  # indices are shapes already; masks have to be counted
        return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(args[1]))
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operator.tags))


Step = tuple[str, Callable[[Any], Any]]


@dataclass(frozen=True)
class StageAudit:
    """What one stage of one decode path asks of one torch release. Operator names, most used first."""

    path: str
    stage: str
    release: str
    operators: tuple[str, ...]
    missing: tuple[str, ...]
    complex: tuple[str, ...]
    float64: tuple[str, ...]
    syncs: tuple[str, ...]
    clean: bool = field(init=False)  # real numbers in operators that the release has, and never waiting

    def __post_init__(self) -> None:
        object.__setattr__(self, "clean", not (self.missing or self.complex or self.float64 or self.syncs))


def our_paths(model: Vocos) -> dict[str, list[Step]]:
    """Every way through the stages, refinement included, by name.

    Each step takes what the one before it gives, the first one audio.

    Those that begin with "matmul" are what an accelerator runs unless told otherwise.
    """
    istfts = {method: make_istft(model.config.head, method) for method in get_args(SpectralMethod)}
    refinement, n_mels = Refinement(model.config.mel, istfts["matmul"]), model.config.mel.n_mels

    def path(method: SpectralMethod) -> list[Step]:
        refine = Refinement(model.config.mel, istfts[method])
        return [
            ("mel", LogMel(model.config.mel, method)),
            ("backbone", model.backbone),
            ("head", model.head),
            ("refine", lambda spectrum: refine(spectrum, _some_mel(spectrum, n_mels), _PASSES)),
            ("istft", lambda spectrum: istfts[method](*spectrum)),
        ]

    def push_features(mel: Tensor) -> list[Tensor]:
        stream, half = BackboneStream(model.backbone, model.backbone.reach), mel.shape[2] // 2
        return [stream.push(mel[..., :half]), stream.push(mel[..., half:], final=True)]

    def push_to_refine(spectra: list[Spectrum]) -> list[Spectrum]:
        stream = RefinementStream(refinement, _PASSES)
        return [stream.push(spectrum, _some_mel(spectrum, n_mels), spectrum is spectra[-1]) for spectrum in spectra]

    def push_spectra(spectra: list[Spectrum]) -> list[Tensor]:
        stream = ISTFTStream(istfts["matmul"])
        return [stream.push(*spectrum, final=spectrum is spectra[-1]) for spectrum in spectra]

    matmul, fft = path("matmul"), path("fft")
    ragged: list[Step] = [
        ("backbone", lambda mel: model.backbone(mel, edges=RaggedEdges(_valid(mel)))),
        ("head", model.head),
        ("refine", lambda s: refinement(s, _some_mel(s, n_mels), _PASSES, _valid(s[0]))),
        ("istft", lambda spectrum: istfts["matmul"](*spectrum, valid=_valid(spectrum[0]))),
    ]
    pieces: list[Step] = [
        ("backbone", push_features),
        ("head", lambda hidden: [model.head(piece) for piece in hidden]),
        ("refine", push_to_refine),
        ("istft", push_spectra),
    ]
    return {
        "matmul": matmul,
        "matmul, ragged batch": [matmul[0], *ragged],
        "matmul, in pieces": [matmul[0], *pieces],
        "fft": fft,
    }


def _some_mel(spectrum: Spectrum, n_mels: int) -> Tensor:
    """A mel to refine towards; its values do not matter to the operators. Shape: 2 x (B, N, L) -> (B, n_mels, L)"""
    batch, _, frames = spectrum[0].shape
    return spectrum[0].new_zeros(batch, n_mels, frames)


def _valid(frames: Tensor) -> Tensor:
    """Marks all frames but the last of the last item. Shape: (B, _, L) -> (B, L, 1)"""
    marks = frames.new_ones(frames.shape[0], frames.shape[2], 1)
    marks[-1, -1] = 0.0
    return marks


def official_path(model: Vocos) -> list[Step]:
    """The stages of the official package with this model's weights; its head includes the inverse STFT.

    Raises:
        ModuleNotFoundError: the official package is not installed.
    """
    from tts_infer.engines.reference import OfficialVocos

    official = OfficialVocos(model.config).eval()
    official.load_state_dict(model.state_dict(), strict=False)  # strict would ask for windows, which are no weights
    return [("mel", official.feature_extractor), ("backbone", official.backbone), ("head", official.head)]


@torch.inference_mode()
def audit(paths: Mapping[str, Sequence[Step]], audio: Tensor, tables: Iterable[OperatorTable]) -> list[StageAudit]:
    """Run each path on `audio` and judge every stage under every table.

    Inference mode, as in a decode: without it, autograd would take composite operators apart before MPS sees them.

    Shape: audio of (B, T)
    """
    rows = []
    for table in tables:
        for path, steps in paths.items():
            value: Any = audio
            for stage, run in steps:
                with MPSRecorder(table) as seen:
                    value = run(value)
                found = (seen.operators, seen.missing, seen.complex, seen.float64, seen.syncs)
                names = [tuple(name for name, count in counts.most_common() if count) for counts in found]
                rows.append(StageAudit(path, stage, table.release, *names))
    return rows
