"""Short whole signals, where calls cost more than products: one engine runs all stages as one graph, in float32.

Vocos is some ninety calls of torch, and half of the time of ten frames is theirs. A graph is one call.

Which engine makes it, and up to how many frames, is stated in a placement (`short=cpu/onnxruntime/16`, `short=none`) or
measured, proved first. Streams, pieces, several lengths and longer signals run stage by stage.

The graph is made by the first short signal of a process, which takes some tenths of a second, and is compared with the
stages then: if it is not right with the real weights, it is never used.
"""

from __future__ import annotations

import copy
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.engines import ENGINES, unusable_reason
from tts_infer.engines.chains import FAILURES, ChainStage, Decode, GraphChain, one_by_one, real_stages
from tts_infer.engines.traced import TracedEngine, export_chain
from tts_infer.errors import PlacementError
from tts_infer.runtime import kept, workers
from tts_infer.runtime.choice import ASKED, Place
from tts_infer.runtime.selftest import made_up
from tts_infer.sentences import Sentence, Several
from tts_infer.stages import TOLERANCE, Stage, relative_error

NAME = "short"  # in placements
FRAMES = (10, 24, 48, 94)  # of the trials
# How many times faster a graph must be, and how many times slower it may be behind work of torch. By the medians of so
# many runs; of fewer where they take long, in milliseconds.
MARGIN, _SLACK = 1.0, 1.05
_RUNS, _FEWEST, _LONG_MS = 7, 3, 30.0
# Size of the matrices of a product that torch shares between its threads.
_SHARED = 256
# The graph of more weights takes seconds to make, and saves little: fetching the weights takes most of the time.
_MOST_WEIGHTS = 2**24
# A graph runs so long untimed: threads of what ran before still spin, and a processor that has rested is slow.
_WARM_S = 0.01


@dataclass(frozen=True)
class Short:
    """The engine of whole signals of up to so many frames, over the batch, and why."""

    engine: str
    frames: int
    reason: str = ASKED

    def __str__(self) -> str:
        return f"{CPU}/{self.engine}/{self.frames}"

    @property
    def place(self) -> Place:
        return Place(CPU, self.engine, "", self.reason)


def decoding_chain(stages: Sequence[Stage]) -> list[Stage]:
    """The stages from features to audio: from the first network on, without those that may be skipped."""
    first = next((i for i, stage in enumerate(stages) if stage.half), len(stages))
    return [stage for stage in stages[first:] if stage.passes is None]


def parsed(text: str, stages: Sequence[Stage], places: Mapping[str, Place]) -> Short | None:
    """What a placement states: "cpu/engine/frames", or "none".

    Args:
        text: the statement.
        stages: of a vocoder.
        places: where and how each of them runs.

    Raises:
        PlacementError: neither; or the engine cannot run these stages as one graph on the CPU.
    """
    if text == "none":
        return None
    device, engine, frames = (*text.split("/"), "", "", "")[:3]
    if device != str(CPU) or engine not in ENGINES or not re.fullmatch("[1-9][0-9]{0,3}", frames):
        raise PlacementError(
            "placement states short={got}; allowed: none, or cpu/ENGINE/FRAMES such as cpu/onnxruntime/16",
            code="short-form",
            got=repr(text[:40]),
        )
    chain = decoding_chain(stages)
    elsewhere = [
        Sentence("{stage} is on {device}", code="stage-on", stage=stage.name, device=places[stage.name].device)
        for stage in chain
        if places[stage.name].device != CPU
    ]
    if reason := _unusable(engine, chain) or next(iter(elsewhere), None):
        text = "engine {engine!r} cannot run short signals as one graph: {reason}; use short=none"
        raise PlacementError(text, code="short-engine", engine=engine, reason=reason)
    return Short(engine, int(frames))


def choose(stages: Sequence[Stage], places: Mapping[str, Place], dtype: DTypeName) -> Short | None:
    """What was measured here before, else what is measured now. None: no graph is faster, or not all is on the CPU.

    Args:
        stages: of a vocoder; their weights do not matter.
        places: where and how each of them runs.
        dtype: of the matrix products of networks.
    """
    chain = decoding_chain(stages)
    names = _usable(chain)
    if not names or _weights(chain) > _MOST_WEIGHTS or any(places[stage.name].device != CPU for stage in chain):
        return None
    where = tuple(str(places[stage.name]) for stage in chain)
    key = (NAME, tuple(stage.signature for stage in chain), where, dtype, tuple(names))
    found = kept.once(key, lambda: _remembered(key, chain, places, dtype))
    return found if found is not None and found.frames else None


def _remembered(key: object, chain: Sequence[Stage], places: Mapping[str, Place], dtype: DTypeName) -> Short | None:
    """What another process found on this very machine, else what is found now.

    Returns:
        None if every graph fails, or other processes disturb the measurement.
    """
    entry = kept.read(key)
    if entry is not None and entry["engine"] in ENGINES and re.fullmatch("[0-9]{1,4}", entry["method"]):
        return Short(entry["engine"], int(entry["method"]), entry["reason"])
    if workers.is_disturbed():
        return None
    found = _measured(chain, places, dtype)
    if found is not None:  # what fails here may pass in the next process
        about = {"engine": found.engine, "method": str(found.frames)}
        kept.write(key, {**about, "reason": kept.before(found.reason)})
    return found


def _weights(chain: Sequence[Stage]) -> int:
    modules = (stage.module for stage in chain if isinstance(stage.module, nn.Module))
    return sum(weight.numel() for module in modules for weight in module.parameters())


def _usable(chain: Sequence[Stage]) -> list[str]:
    """The engines to choose from."""
    able = [name for name, one in ENGINES.items() if isinstance(one, TracedEngine) and one.shortens]
    return [name for name in able if _unusable(name, chain) is None]


def _unusable(engine: str, chain: Sequence[Stage]) -> str | None:
    """Why an engine cannot run stages as one graph."""
    if not isinstance(ENGINES[engine], TracedEngine):
        return Sentence("it runs stage by stage", code="short-stages")
    given = {name for stage in chain for name in stage.gives} | set(chain[0].takes[:1] if chain else ())
    if not chain or chain[-1].gives != ("audio",):
        return Sentence("no stages make audio of features", code="short-no-audio")
    for stage in chain:
        if stage.whole or stage.engines:
            return Sentence("the stage {stage} has no graph", code="short-no-graph", stage=stage.name)
        if not given.issuperset(stage.takes):
            return Sentence("the stage {stage} takes more than features", code="short-takes", stage=stage.name)
    networks = (stage for stage in chain if stage.half)
    return next((reason for stage in networks if (reason := unusable_reason(engine, stage, CPU, "float32"))), None)


@dataclass
class _Trial:
    """A graph that has been faster than the stages on up to so many frames, over all trials so far."""

    engine: str
    run: Decode
    frames: int = 0
    times: list[float] = field(default_factory=list)  # on more and more frames
    said: list[Sentence] = field(default_factory=list)

    def wins(self, features: Tensor, against: float, behind: float) -> bool:
        """Whether it is faster than the stages on these features, and no slower than allowed behind work of torch.

        Args:
            features: of one item.
            against, behind: the time of the stages on them, alone and behind work of torch.
        """
        ms, frames = _ms(self.run, features), features.shape[2]
        self.times.append(ms)
        text = "{ms:.2f} ms against {against:.2f} on {frames} frames"
        self.said.append(Sentence(text, code="short-times", ms=ms, against=against, frames=frames))
        return ms * MARGIN < against and _behind_torch(self.run, features) <= _SLACK * behind

    @property
    def found(self) -> Short:
        text = "one graph by {engine}: {times:, }"
        reason = Sentence(text, code="short-graph", engine=self.engine, times=Several(self.said))
        return Short(self.engine, self.frames, reason)


@torch.inference_mode()
def _measured(chain: Sequence[Stage], places: Mapping[str, Place], dtype: DTypeName) -> Short | None:
    """The engine that is faster than the stages for the longest signals, or on few frames; for 0 frames if none is.

    Returns:
        None if every graph is wrong, or fails.
    """
    plain = [made_up(stage).by(places[stage.name].method) for stage in chain]
    usual = one_by_one([_prepared(stage, places[stage.name].engine, dtype) for stage in plain])
    trials = _trials(_usable(chain), plain)
    going = list(trials)
    for frames in FRAMES:
        if not going:
            break
        features = _features(plain[0], frames)
        expected, against, behind = usual(features), _ms(usual, features), _behind_torch(usual, features)
        for trial in list(going):
            try:
                right = relative_error(trial.run(features), expected) <= TOLERANCE[dtype]
                wins = right and trial.wins(features, against, behind)
            except FAILURES:
                right = wins = False
            if wins:
                trial.frames = frames
            else:
                going.remove(trial)
            if not right:
                trials.remove(trial)
    return min(trials, key=lambda trial: (-trial.frames, trial.times[0])).found if trials else None


def _trials(engines: Sequence[str], plain: Sequence[Stage]) -> list[_Trial]:
    """The graphs that can be made. All engines take one model."""
    trials: list[_Trial] = []
    with suppress(*FAILURES):
        model = export_chain(real_stages(plain))
        for engine in engines:
            with suppress(*FAILURES):
                trials.append(_Trial(engine, _graph(engine, model)))
    return trials


def _prepared(stage: Stage, engine: str, dtype: DTypeName) -> Stage:
    own = copy.deepcopy(stage.module)  # the engine changes it
    return ENGINES[engine].prepare(stage.using(own), CPU, dtype if stage.half else "float32")


def _features(first: Stage, frames: int) -> Tensor:
    """The probe of one item, as often as there are frames."""
    probe, axis = first.probe()[0][:1], first.frame_axis
    return torch.cat([probe] * (1 + frames // probe.shape[axis]), dim=axis).narrow(axis, 0, frames).contiguous()


def _graph(engine: str, model: bytes) -> Decode:
    made = ENGINES[engine]
    assert isinstance(made, TracedEngine)
    session = made.maker("float32")(model)
    return lambda features: session(features)[0]


def _ms(decode: Decode, features: Tensor, before: Callable[[], object] = lambda: None) -> float:
    """The median time of a run, each behind what runs before it, once it has run for a while untimed."""
    times: list[float] = []
    until = time.perf_counter() + _WARM_S
    while time.perf_counter() < until:
        before()
        decode(features)
    while len(times) < _FEWEST or (len(times) < _RUNS and sum(times) < _LONG_MS):
        before()
        start = time.perf_counter()
        decode(features)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def _behind_torch(decode: Decode, features: Tensor) -> float:
    """The same after work that torch has shared: its threads still spin then, on the cores that a graph wants."""
    square = torch.ones(_SHARED, _SHARED)
    return _ms(decode, features, lambda: square @ square)


def short_stage(short: Short, plain: Sequence[Stage], prepared: Sequence[Stage], dtype: DTypeName) -> ChainStage:
    """The stage that runs short signals.

    Args:
        short: the engine.
        plain: all stages of a vocoder, with modules of torch in float32.
        prepared: the same as they run one by one.
        dtype: of the matrix products of networks there.
    """
    chain = decoding_chain(plain)
    names = [stage.name for stage in chain]
    usual = one_by_one([stage for stage in prepared if stage.name in names])

    def make() -> Decode:
        return _graph(short.engine, export_chain(real_stages(chain)))

    return ChainStage.of(GraphChain(make, chain, usual, TOLERANCE[dtype]))
