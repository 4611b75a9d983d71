"""A batch on a Ray cluster: read, decode in actors that hold the vocoder, write. Imported only when asked for.

Ray Data places the work, moves its data, and repeats what dies with an actor or a machine. Every step may be repeated,
because it makes the same bytes, and files get their names whole. If the whole cluster dies, Ray also ends this process
within seconds, with a message of its own and exit status 1; the same call continues from the journal.

All machines must reach the sources, the outputs and this package under the same names; the journal stays with the
process that was called. The last bits depend on the kind of processor: machines of one kind make equal bytes.
"""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tts_infer.batch.buckets import Bucket, Content, Outcome, Work, decode, note_of, read, to_mel, write
from tts_infer.batch.manifest import Item
from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock
from tts_infer.errors import InputError, first_sentence
from tts_infer.io.writer import SampleFormat
from tts_infer.runtime.placement import Placement
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.features import FeatureSpec

try:
    import ray
    import ray.data
except ImportError as error:
    text = "executor 'ray' needs Ray ({reason}); install it: pip install 'tts-infer[ray]'"
    raise InputError(text, code="ray-missing", reason=str(error)) from None

# At most this many actors read, and as many write, for each actor that decodes.
_BESIDE = 2
# This many machines may die, one after the other, while an actor loads its vocoder.
_DEATHS_AT_START = 10
# A cluster must answer within this time. Ray itself would try for minutes.
_ANSWER_S = 5.0
# Ray removes an actor when a smaller share of its pool is busy.
_NEVER = -1.0
# No usage reports; and no warning at every start about what happens if the calling process dies.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}

Row = dict[str, bytes]  # one bucket, pickled, in one column: Ray's tables have no ragged lists of tensors


def run(vocoder: Vocoder, buckets: Sequence[Bucket], sample_format: SampleFormat, address: str | None = None) -> Work:
    """An executor, see `tts_infer.batch.buckets`.

    Args:
        vocoder: every actor gets its weights and placement.
        buckets: the work.
        sample_format: how samples are stored.
        address: of a running cluster, as `ray.init` takes it; None: the one that this process is connected to, else
            a cluster on this machine for the time of the batch.

    Raises:
        InputError: there is no cluster at `address`.
    """
    if not buckets:
        return
    rows = [_row([replace(i, source=i.source.absolute(), folder=i.folder.absolute()) for i in b]) for b in buckets]
    with _connected(address), _quiet(), ray.data.DataContext.current(_context()):
        for row in _pipeline(vocoder, rows, sample_format).iter_rows():
            outcomes: list[Outcome] = _content(row)
            yield outcomes
            if any(outcome.unwritten for outcome in outcomes):
                return


def _pipeline(vocoder: Vocoder, rows: list[Row], sample_format: SampleFormat) -> ray.data.Dataset:
    """Rows of items in, rows of outcomes out.

    Every step is a pool of actors. Ray Data restarts what dies without limit, by its defaults (max_restarts and
    max_task_retries of -1). Reading and writing wait more than they compute, so they reserve no CPU: they can also run
    when decoding holds all CPUs that are left after a machine has died. They are actors because Ray ends the workers
    of tasks without CPUs when they pause, and new ones take seconds to start.
    """
    gpus, there = _gpus(vocoder.placement), ray.cluster_resources()
    decoders = max(1, int(there["GPU"] / gpus if gpus else there.get("CPU", 1)))
    beside = ray.data.ActorPoolStrategy(min_size=1, max_size=_BESIDE * decoders)
    decoding = ray.data.ActorPoolStrategy(min_size=1, initial_size=decoders)
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = _through(dataset, beside, _Read, [vocoder.features])
    dataset = _through(dataset, decoding, _Decode, [ray.put(_recipe(vocoder))], 1, gpus)
    return _through(dataset, beside, _Write, [vocoder.sample_rate, sample_format])


def _through(
    dataset: ray.data.Dataset,
    pool: ray.data.ActorPoolStrategy,
    actor: Any,
    made_with: list[Any],
    cpus: int = 0,
    gpus: int = 0,
) -> ray.data.Dataset:
    return dataset.map(actor, fn_constructor_args=made_with, num_cpus=cpus, num_gpus=gpus, compute=pool)


class _Read:
    def __init__(self, features: FeatureSpec) -> None:
        self._features = features

    def __call__(self, row: Row) -> Row:
        items: list[Item] = _content(row)
        return _row((items, [read(item, self._features) for item in items]))


class _Decode:
    """One vocoder and one thread, as in `tts_infer.batch.local`: the last bits depend on the number of threads."""

    def __init__(self, recipe: ray.ObjectRef[_Recipe]) -> None:
        made = ray.get(recipe)
        torch.set_num_threads(1)
        self._vocoder = Vocoder(made.model, made.placement, made.name, made.dtype, made.refine, made.check_convention)

    def __call__(self, row: Row) -> Row:
        items: list[Item]
        contents: list[Content]
        items, contents = _content(row)
        notes = [note_of(content, self._vocoder) for content in contents]
        audios = decode([to_mel(content, self._vocoder) for content in contents], self._vocoder)
        return _row((items, [audio if isinstance(audio, str) else audio.cpu() for audio in audios], notes))


class _Write:
    def __init__(self, sample_rate: int, sample_format: SampleFormat) -> None:
        self._sample_rate, self._sample_format = sample_rate, sample_format

    def __call__(self, row: Row) -> Row:
        items: list[Item]
        audios: list[Content]
        notes: list[str | None]
        items, audios, notes = _content(row)
        rate, form, made = self._sample_rate, self._sample_format, zip(items, audios, notes, strict=True)
        return _row([write(item, audio, rate, form, note) for item, audio, note in made])


def _row(content: Any) -> Row:
    return {"bucket": pickle.dumps(content, pickle.HIGHEST_PROTOCOL)}


def _content(row: Row) -> Any:
    return pickle.loads(row["bucket"])


@dataclass(frozen=True)
class _Recipe:
    """What an actor makes its vocoder of."""

    model: nn.Module
    placement: Placement
    name: str
    dtype: DTypeName
    refine: int
    check_convention: bool


def _recipe(vocoder: Vocoder) -> _Recipe:
    devices = _accelerators(vocoder.placement)
    with device_lock(*devices):
        model = copy.deepcopy(vocoder.model).to(CPU)
    placement = _as_seen_there(vocoder.placement)
    checks = vocoder.convention_check is not None
    return _Recipe(model, placement, vocoder.name, vocoder.dtype, vocoder.refine, checks)


def _accelerators(placement: Placement) -> list[torch.device]:
    return sorted(placement.devices - {CPU}, key=str)


def _as_seen_there(placement: Placement) -> Placement:
    """The same placement for an actor, which sees only its own accelerators, counted from 0."""
    number = {device: torch.device(device.type, i) for i, device in enumerate(_accelerators(placement))}
    return Placement({s: replace(place, device=number.get(place.device, CPU)) for s, place in placement.items()})


def _gpus(placement: Placement) -> int:
    """The GPUs that an actor reserves."""
    return len(_accelerators(placement)) if ray.cluster_resources().get("GPU") else 0


def _context() -> ray.data.DataContext:
    """The user's settings, with more patience for machines that die."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False  # the batch has its own
    # an actor that is let go would have to load the vocoder again for the next bucket
    context.autoscaling_config.actor_pool_util_downscaling_threshold = _NEVER
    context.max_consecutive_actor_init_deaths = _DEATHS_AT_START
    return context


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's progress messages out of the terminal; its log file has everything."""
    consoles = [h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)]
    levels = [console.level for console in consoles]
    for console in consoles:
        console.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for console, level in zip(consoles, levels, strict=True):
            console.setLevel(level)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Use the cluster that this process is connected to, or connect to one while the body runs."""
    if ray.is_initialized():
        if address is not None:
            text = "this process is connected to a Ray cluster already, not to {address!r}"
            raise InputError(text, code="ray-connected", address=address)
        yield
        return
    _require_answer(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if address is None:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        text, reason = "no Ray cluster at {address!r}: {reason}", first_sentence(error)
        raise InputError(text, code="ray-not-found", address=address or "local", reason=reason) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Try once to reach an address of host and port; other addresses are left to Ray.

    Raises:
        InputError: nobody answers.
    """
    named = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d+)", address or "")
    if not named:
        return
    try:
        socket.create_connection((named[1], int(named[2])), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        text = "no Ray cluster at {address!r}: {reason}; `ray status` on a machine of the cluster shows its address"
        raise InputError(text, code="ray-no-answer", address=address, reason=str(error)) from None
