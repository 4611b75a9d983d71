"""Which stage runs on which device, by which engine and method.

A placement is written as `stage=device[/engine][/method]`, separated by commas; as a name of `configs/placements.yaml`;
as a YAML file; as a dict; or as a `Placement`. What it states is obeyed or refused. Stages that it does not name, and
engines and methods that it leaves out, are chosen from what passes the self-test (see `tts_infer.runtime.selftest`):

- on the device that the user named, the faster one;
- with device "auto", the faster of that device and the CPU;
- where everything runs on the CPU, an engine for short whole signals (see `tts_infer.runtime.short`);
- a stage that passes by no method there goes to the CPU, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch

from tts_infer.arguments import checked
from tts_infer.config import DTypeName
from tts_infer.deprecated import warn_renamed
from tts_infer.devices import CPU, DTYPES, require_dtype, resolve_device
from tts_infer.engines import ENGINES, unusable_reason, usable_engines
from tts_infer.errors import PlacementError
from tts_infer.runtime import short
from tts_infer.runtime.choice import Place, StageRequest, choose, preference_order, to_cpu
from tts_infer.runtime.short import Short
from tts_infer.runtime.spec import parse, parse_place
from tts_infer.sentences import Sentence
from tts_infer.stages import Stage
from tts_infer.vocoders import PEERS, usual_stages
from tts_infer.vocoders.spectral import METHODS

MethodChoice = Literal["auto", "matmul", "fft"]
_ON_CPU = Sentence("float32 on 'cpu'", code="float32-on-cpu")


class Placement(Mapping[str, Place]):
    """A place for each stage, by name.

    Attributes:
        short: what runs short whole signals instead; None: nothing else.
    """

    def __init__(self, places: Mapping[str, Place], short: Short | None = None) -> None:
        self._places, self.short = dict(places), short

    @classmethod
    def auto(cls, device: str | torch.device = "auto", dtype: DTypeName = "float32", check: bool = True) -> Placement:
        """Choose for each stage of the field's usual vocoder, see the head of this module.

        Args:
            device: the device wanted.
            dtype: of the matrix products of networks.
            check: whether to prove and time the stages first; if not, the device is trusted.

        Raises:
            PlacementError: no such device here.
        """
        return make_placement(device=device, dtype=dtype, check=check)

    def __getitem__(self, stage: str) -> Place:
        return self._places[stage]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getattr__(self, stage: str) -> Place:
        """The place of a stage, as an attribute: the release before had four of them."""
        if stage.startswith("_") or stage not in self._places:
            raise AttributeError(f"placement has no stage {stage!r}")
        warn_renamed(f"placement.{stage}", f"placement[{stage!r}]")
        return self._places[stage]

    @property
    def devices(self) -> set[torch.device]:
        return {place.device for place in self.values()}

    def __str__(self) -> str:
        return ",".join([self.of_batches, *([f"{short.NAME}={self.short}"] if self.short else [])])

    @property
    def of_batches(self) -> str:
        """As text, without what runs short whole signals: several lengths in one batch never use it."""
        return ",".join(f"{stage}={place}" for stage, place in self.items())

    def __repr__(self) -> str:
        return f"Placement({self})"


PlacementSpec = str | os.PathLike[str] | Mapping[str, str] | Placement | None


@checked("device")
def make_placement(
    spec: PlacementSpec = None,
    device: str | torch.device = "auto",
    mel: MethodChoice = "auto",
    istft: MethodChoice = "auto",
    dtype: DTypeName = "float32",
    check: bool = True,
    *,
    engine: str = "auto",
    stages: Sequence[Stage] | None = None,
) -> Placement:
    """Turn what the user wrote into a placement that is obeyed as it stands.

    Args:
        spec: see the head of this module.
        device: for the stages that `spec` does not name.
        mel, istft: method of these stages; "auto" leaves it to `spec`, and if that is silent, to the device.
        dtype: of the matrix products of networks.
        check: whether what is left to choose is proved and timed first. Results are kept for the process.
        engine: for the stages whose engine `spec` does not state and that it can run; "auto": see the head.
        stages: what is to be placed; None: the stages of the field's usual vocoder.

    Raises:
        PlacementError: unknown stage, device, engine, method or name; a device that this machine lacks; a dtype that is
            no use on its device; two methods asked for one stage; or a stage whose device was stated fails there by
            every method.
    """
    stages = usual_stages() if stages is None else stages
    methods = {name: method for name, method in (("mel", mel), ("istft", istft)) if not _is_auto(method)}
    for name, method in methods.items():
        _require_method(name, method)
    if isinstance(spec, Placement):
        return _as_stated(spec, methods, stages)
    wanted = dict(parse(spec))
    stated = wanted.pop(short.NAME, None)
    names = [stage.name for stage in stages]
    unknown = [name for name in (*wanted, *methods) if name not in names]
    if unknown:
        raise PlacementError(
            "placement names the stage {got!r}; the stages are: {allowed}",
            code="stage-unknown",
            got=unknown[0],
            allowed=", ".join(names),
        )
    chain = [stage.name for stage in short.decoding_chain(stages)]
    is_open = check and _is_auto(engine) and not any(name in methods or "/" in wanted.get(name, "") for name in chain)
    wanted = wanted if _is_auto(engine) else _with_engine(wanted, engine, stages, device, dtype)
    places: dict[str, Place] = {}
    for stage in sorted(stages, key=lambda one: one.follows is not None):  # leaders first
        leader = None if stage.name in wanted else places.get(stage.follows or "")
        if leader is not None and leader.check is None:  # what was asked for is obeyed for both
            places[stage.name] = leader
        else:
            places[stage.name] = choose(_request(stage, wanted, methods, device, dtype, leader), check)
    places = {name: places[name] for name in names}
    if stated is not None:
        return Placement(places, short.parsed(stated, stages, places))
    return Placement(places, short.choose(stages, places, dtype) if is_open else None)


def _with_engine(
    wanted: Mapping[str, str], engine: str, stages: Sequence[Stage], device: str | torch.device, dtype: DTypeName
) -> dict[str, str]:
    """The places that the user wrote, with an engine for each stage that it can run.

    Raises:
        PlacementError: no such engine, or it can run none of the stages.
    """
    require_engine(engine, ENGINES)
    places, reasons = dict(wanted), list[str]()
    for stage in sorted(stages, key=lambda one: not one.half):  # networks first: engines are for them
        where, stated, method = parse_place(stage, wanted.get(stage.name, ""))
        reason = unusable_reason(engine, stage, resolve_device(where or device), dtype)
        if reason is None and not stated:
            places[stage.name] = "/".join((where, engine, *([method] if method else [])))
        reasons += [reason] if reason else []
    if len(reasons) == len(stages):
        text = "engine {engine!r} can run no stage: {reason}"
        raise PlacementError(text, code="engine-idle", engine=engine, reason=reasons[0])
    return places


def require_engine(engine: str, allowed: Iterable[str] | None = None) -> None:
    """Refuse the name of an engine that there is not.

    Args:
        engine: the name.
        allowed: besides "auto"; None: every engine and peer.

    Raises:
        PlacementError: names those that there are.
    """
    names = ("auto", *((*ENGINES, *PEERS) if allowed is None else allowed))
    if not isinstance(engine, str) or engine not in names:
        text = "engine is {got!r}; allowed: {allowed}"
        raise PlacementError(text, code="engine-unknown", got=engine, allowed=", ".join(names))


def require_devices(spec: PlacementSpec, device: str | torch.device, dtype: DTypeName) -> None:
    """Refuse devices that this machine lacks, before it is known which stages there are.

    Raises:
        PlacementError: see `parse`; no such device here; or an unknown dtype.
    """
    if isinstance(spec, Placement):
        return
    for text in (str(device), *(text for name, text in parse(spec).items() if name != short.NAME)):
        resolve_device(text.partition("/")[0] or device)
    if dtype not in DTYPES:
        require_dtype(CPU, dtype)


def _as_stated(placement: Placement, methods: Mapping[str, str], stages: Sequence[Stage]) -> Placement:
    """A placement that was made before, for these stages. A stage that follows another may be missing in it."""
    for name, method in methods.items():
        if name in placement and placement[name].method != method:
            raise _two_methods(name, placement[name].method, method)
    places = {}
    for stage in stages:
        place = placement.get(stage.name) or placement.get(stage.follows or "")
        if place is None:
            raise PlacementError(
                "placement has no place for the stage {stage!r}; it has: {got}",
                code="stage-unplaced",
                stage=stage.name,
                got=", ".join(placement),
            )
        places[stage.name] = place
    return Placement(places, placement.short)


def _request(
    stage: Stage,
    wanted: Mapping[str, str],
    methods: Mapping[str, str],
    device: str | torch.device,
    dtype: DTypeName,
    leader: Place | None,
) -> StageRequest:
    """What the user wrote of a stage; a stage that follows another and is not named goes where its leader went."""
    if leader is not None:
        choice = (leader.engine, leader.method)
        return StageRequest(stage, leader.device, (choice,), False, False, dtype)
    where, engine, method = parse_place(stage, wanted.get(stage.name, ""))
    asked = methods.get(stage.name, "")
    if method and asked and method != asked:
        raise _two_methods(stage.name, method, asked)
    target = resolve_device(where or device)
    if stage.half:
        require_dtype(target, dtype)
    if engine:
        _require_engine(stage, engine, target, dtype)
    engines = (engine,) if engine else usable_engines(stage, target, dtype)
    if not engines and where in ("", "auto"):  # it has engines of its own, which compute on the CPU only
        reason = unusable_reason(stage.engines[0], stage, target, dtype)
        target, engines = CPU, usable_engines(stage, CPU, dtype)
        if engines and str(device) != "auto":
            warnings.warn(to_cpu(stage, reason or ""), stacklevel=2)
    if not engines:
        _require_engine(stage, stage.engines[0], target, dtype)
    named = method or asked
    ways = (named,) if named else preference_order(stage.methods, target) or ("",)
    choices = tuple((one, way) for one in engines for way in ways)
    insists, any_device = where not in ("", "auto"), (where or str(device)) == "auto"
    return StageRequest(stage, target, choices, insists, any_device, dtype)


def _require_engine(stage: Stage, engine: str, device: torch.device, dtype: DTypeName) -> str:
    reason = unusable_reason(engine, stage, device, dtype)
    if reason:
        raise PlacementError(
            "engine of {stage!r} is {engine!r}, but {reason}; use {other}",
            code="engine-unsupported",
            stage=stage.name,
            engine=engine,
            reason=reason,
            other=_ON_CPU if stage.engines else "'torch'",
        )
    return engine


def _is_auto(given: object) -> bool:
    return isinstance(given, str) and given == "auto"  # an array would compare its items


def _require_method(stage: str, method: str) -> None:
    if not isinstance(method, str) or method not in METHODS:
        allowed = ", ".join(("auto", *METHODS))
        raise PlacementError(
            "method of {stage!r} is {method!r}; allowed: {allowed}",
            code="method-unknown",
            stage=stage,
            method=method,
            allowed=allowed,
        )


def _two_methods(stage: str, first: str, second: str) -> PlacementError:
    text = "stage {stage!r} is placed with method {first!r}, but {second!r} is asked for as well"
    return PlacementError(text, code="two-methods", stage=stage, first=first, second=second)
