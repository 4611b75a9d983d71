"""Load a vocoder: find its files, build its model, place its stages."""

from __future__ import annotations

import os
from typing import Literal

import torch

from tts_infer.config import MelConfig
from tts_infer.devices import dtype_name, resolve_device
from tts_infer.errors import PlacementError
from tts_infer.runtime.choice import clear_checks
from tts_infer.runtime.placement import MethodChoice, PlacementSpec, make_placement, require_devices, require_engine
from tts_infer.runtime.precision import best_dtype
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import PEERS, family_of, peer_of
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER, load_model, resolve

DTypeChoice = Literal["auto", "float32", "bfloat16", "float16"]


def load_vocoder(
    name: str | os.PathLike[str] = DEFAULT_VOCODER,
    *,
    device: str | torch.device = "auto",
    placement: PlacementSpec = None,
    engine: str = "auto",
    mel: MethodChoice = "auto",
    istft: MethodChoice = "auto",
    dtype: DTypeChoice | torch.dtype = "float32",
    refine: int | None = None,
    revision: str | None = None,
    config: str | os.PathLike[str] | None = None,
    check: bool = True,
    cache: bool = True,
    convention: str | MelConfig | None = None,
    check_convention: bool = True,
) -> Vocoder:
    """Load a pretrained vocoder, ready to decode.

    Args:
        name: a name in `configs/vocoders` (the default vocoder is part of the package), a local directory with
            `config.yaml` and weights, a weights file (.safetensors, .bin, .pt, .pth, .ckpt) with a `config.yaml` beside
            it, a graph that `export_onnx` wrote (.onnx), or a Hub id such as "charactr/vocos-mel-24khz".
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        placement: where single stages run, see `tts_infer.runtime.spec`. Stages that it does not name go to `device`.
        engine: for every stage that it can run and that `placement` names no engine for; "auto": what suits it. Or a
            peer, which decodes the same mels in place of all stages: "vocos" is the official package with the same
            weights, "griffin-lim" needs none. Peers compute in float32, without refinement.
        mel, istft: method of the spectral stages: "matmul", "fft" or "auto".
        dtype: of the matrix products in networks; "auto": bfloat16 where it is right and was measured to be faster on
            few frames and on many, else float32. One of torch's, such as torch.bfloat16, is taken, too.
        refine: default number of refinement passes of a decode; None: the number in `configs/vocoders`, else 0.
        revision: branch, tag or commit of a Hub repository.
        config: in place of the configuration beside the weights: its path, or a name in `configs/vocoders` whose
            mel convention the weights have.
        check: prove and time the stages whose device or method is not stated, see `make_placement`.
        cache: use what was measured on this machine before, and keep what is measured now, in the user's cache folder.
        convention: the mel convention, by name (see `tts_infer.CONVENTIONS`) or as a value, where the vocoder's own
            files do not state all of it; None: what they state, completed by the known convention that agrees.
        check_convention: warn of features that belong to another convention, see `ConventionCheck`.

    Raises:
        VocoderNotFoundError: nothing has that name, here or on the Hub.
        ConfigError, CheckpointError: its files cannot be used.
        PlacementError: a device, engine, method or dtype is unknown or not available here.
        MissingPackageError: the package of a peer is not installed.
        InputError: `refine` is not 0 or more, or a revision is stated for a vocoder that is not on the Hub.
    """
    best = isinstance(dtype, str) and dtype == "auto"
    named = "float32" if best else dtype_name(dtype)
    require_devices(placement, device, named)  # before anything is downloaded
    peer = _peer(engine, named)
    if not cache:
        clear_checks()
    files = resolve(name, revision, config)
    model = load_model(files if convention is None else files.with_convention(convention))
    if peer is not None:
        model, engine = peer_of(peer, model), "auto"
    stages = family_of(model).stages(model)
    if best:
        named, _ = best_dtype(stages, resolve_device(device))
    placed = make_placement(placement, device, mel, istft, named, check, engine=engine, stages=stages)
    if refine is None:
        refine = files.known.refine if files.known and peer is None else 0
    return Vocoder(model, placed, files.name, named, refine, check_convention)


def _peer(engine: str, dtype: str) -> str | None:
    """The peer that an engine's name means; None: it means an engine."""
    require_engine(engine)
    if engine not in PEERS:
        return None
    if dtype != "float32":
        text = "engine {engine!r} computes in float32, not in {dtype}; leave the dtype out"
        raise PlacementError(text, code="peer-dtype", engine=engine, dtype=dtype)
    return engine
