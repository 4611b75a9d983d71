"""Many files at once: exact ragged batches, resumable, by one of several engines that make the same bytes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import torch

from tts_infer.batch.buckets import Bucket, Engine, Outcome, Task, bucket_frames, frames_of, group
from tts_infer.batch.journal import Entry, Journal
from tts_infer.batch.local import run as run_here
from tts_infer.batch.manifest import Container, Item, Names, list_items
from tts_infer.deprecated import renamed
from tts_infer.devices import device_lock
from tts_infer.errors import FileError, InputError
from tts_infer.io.writer import SampleFormat, check_format, check_writable, part_stem
from tts_infer.vocoder import Vocoder

EngineName = Literal["local", "ray"]
Progress = Callable[[int, int, float], bool | None]


@dataclass
class BatchReport:
    """What became of a batch. `made` and `rtfx` count this run; `outputs` and `failed` the whole job."""

    outputs: dict[str, float] = field(default_factory=dict)  # output name -> seconds of audio
    failed: dict[str, str] = field(default_factory=dict)  # output name -> reason
    made: int = 0
    clipped_samples: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio made per second of this run."""
        return self.seconds / self.wall_s if self.wall_s else 0.0

    xrt = renamed("xrt", "rtfx")


def synthesize_batch(
    vocoder: Vocoder,
    inputs: Names,
    out_dir: str | os.PathLike[str],
    *,
    container: Container = "wav",
    sample_format: SampleFormat = "pcm16",
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
) -> BatchReport:
    """Decode or copy many files into a folder; called again after whatever interrupted it, it continues.

    Outputs are written whole or not at all. A file is never decoded in other company than before, so an interrupted
    run ends with the bytes of an undisturbed one. A broken input is recorded with its reason, and the others go on;
    each call tries it again. An output that is missing, or shorter than it was when it was made, is made again.

    Args:
        vocoder: what decodes.
        inputs: see `tts_infer.batch.manifest.list_items`.
        out_dir: folder of the outputs, made if it is missing. Not where `inputs` finds files, see `list_items`.
        container: of outputs that no manifest names.
        sample_format: how samples are stored.
        journal: where progress is kept; None: beside the folder that `out_dir` leads to, as `NAME.journal`.
        progress: called after each bucket with the files made in this run so far, those to make, and the seconds of
            audio made. False ends the batch early: what was reported is kept, and what is at hand is
            made anew by the next call; of that and of the rest the report says nothing.
        engine: "local": this process; "ray": a Ray cluster, see `tts_infer.batch.ray`. A batch begun by one may be
            continued by the other.
        ray_address: of a running cluster; None: the one this process is connected to, else one on this machine.

    Raises:
        FileError, InputError: bad names, or no such engine here (before any work); a journal of other settings or in
            use; a full disk, with what was done kept.
    """
    run = _engine(engine, ray_address)
    root = Path(out_dir)
    kept_in = Path(journal) if journal else _journal_beside(root)
    items = list_items(inputs, root, container)
    for item in items:  # before folders are made
        check_format(item.output, sample_format)
    _make_folders(root, items)
    for item in items:
        check_writable(root / item.output, sample_format)
    with Journal(kept_in, _settings(vocoder, sample_format)) as kept:
        return _Job(vocoder, root, sample_format, kept, progress).run(items, run)


def _journal_beside(root: Path) -> Path:
    folder = Path(os.path.realpath(root))  # "." has no name
    if not folder.name:
        raise InputError(f"output folder {str(root)!r} has no folder around it for a journal; name one (--journal)")
    return folder.with_name(f"{folder.name}.journal")


def _make_folders(root: Path, items: Sequence[Item]) -> None:
    try:
        for folder in [root, *{(root / item.output).parent for item in items}]:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make {folder}: {error.strerror}") from None


def _settings(vocoder: Vocoder, sample_format: SampleFormat) -> dict[str, str]:
    """What decides on the bytes of every output."""
    return {
        "weights": _digest(vocoder),
        "placement": str(vocoder.placement),
        "dtype": vocoder.dtype,
        "refine": str(vocoder.refine),
        "sample_format": sample_format,
    }


def _digest(vocoder: Vocoder) -> str:
    """Of the weights and their configuration: a name may lead to others tomorrow, and other names to the same."""
    digest = hashlib.blake2b(repr(vocoder.model.config).encode(), digest_size=4)
    with device_lock(*vocoder.placement.devices):
        for name, tensor in vocoder.model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _engine(name: EngineName, ray_address: str | None) -> Engine:
    if name not in get_args(EngineName):
        raise InputError(f"engine is {name!r}; allowed: {', '.join(get_args(EngineName))}")
    if name == "local":
        if ray_address is not None:
            raise InputError("a Ray address is given, but the engine is 'local'; use engine 'ray'")
        return run_here
    from tts_infer.batch.ray import run as run_on_ray

    return partial(run_on_ray, address=ray_address)


def _look(item: Item) -> Entry:
    """An entry without a bucket. Its fingerprint changes when the source does."""
    try:
        stat = item.source.stat()
    except OSError as error:
        reason = f"cannot read {item.source}: {error.strerror}"
        return Entry(str(item.output), f"{item.source}:missing", bucket=0, error=reason)
    return Entry(str(item.output), f"{item.source}:{stat.st_size}:{stat.st_mtime_ns}", bucket=0)


@dataclass
class _Job:
    vocoder: Vocoder
    root: Path
    sample_format: SampleFormat
    journal: Journal
    progress: Progress | None
    to_make: int = 0

    def run(self, items: Sequence[Item], engine: Engine) -> BatchReport:
        start = time.perf_counter()
        report = BatchReport()
        entries = self._plan(items)
        targets = [self.root / item.output for item in items]
        _remove_parts(targets)
        waiting = self._waiting(items, entries)
        self.to_make = sum(map(len, waiting))
        refusals: list[str] = []
        try:
            with closing(engine(self.vocoder, waiting, self.sample_format)) as work:  # or it would go on meanwhile
                for outcomes in work:
                    refusals += self._finish(outcomes, entries, report)
                    if self.progress and self.progress(report.made, self.to_make, report.seconds) is False:
                        break
        finally:
            _remove_parts(targets)  # of machines that died
        if refusals:
            raise FileError(refusals[0])
        for output in (str(item.output) for item in items):
            entry = entries[output]
            if entry.error is not None:
                report.failed[output] = entry.error
            elif entry.seconds is not None:
                report.outputs[output] = entry.seconds
        report.wall_s = time.perf_counter() - start
        return report

    def _plan(self, items: Sequence[Item]) -> dict[str, Entry]:
        """Every item's entry: the one it had, if its source is as it was, else a new one in a new bucket.

        What failed is new, too: it may have been repaired, and the others of its bucket were decoded without it.
        """
        known = self.journal.entries()
        kept = {(entry.output, entry.fingerprint) for entry in known.values() if entry.error is None}
        seen = {item: _look(item) for item in items}
        new = {item: entry for item, entry in seen.items() if (entry.output, entry.fingerprint) not in kept}
        sizes = {e.output: frames_of(i.source, self.vocoder.mel_config) for i, e in new.items() if e.error is None}
        first = 1 + max((entry.bucket for entry in known.values()), default=0)
        buckets = dict(group(sizes, first, bucket_frames(self.vocoder)))
        planned = [replace(entry, bucket=buckets.get(entry.output, 0)) for entry in new.values()]
        self.journal.record(planned)
        return known | {entry.output: entry for entry in planned}

    def _waiting(self, items: Sequence[Item], entries: dict[str, Entry]) -> list[Bucket]:
        """The buckets that hold something to do, whole but for what is known to fail."""
        sources = {str(item.output): item.source for item in items}
        ordered = sorted((e for o in sources if (e := entries[o]).error is None), key=lambda e: e.bucket)
        buckets = [list(group) for _, group in groupby(ordered, key=lambda e: e.bucket)]
        return [
            [Task(entry.output, sources[entry.output], self.root / entry.output) for entry in bucket]
            for bucket in buckets
            if not all(map(self._is_settled, bucket))
        ]

    def _is_settled(self, entry: Entry) -> bool:
        target = self.root / entry.output
        return entry.seconds is not None and target.is_file() and target.stat().st_size >= (entry.size or 0)

    def _finish(self, outcomes: list[Outcome], entries: dict[str, Entry], report: BatchReport) -> list[str]:
        """Note what is there, and return why the rest could not be written."""
        done = [outcome for outcome in outcomes if outcome.unwritten is None]
        for outcome in done:
            entries[outcome.name] = replace(
                entries[outcome.name],
                seconds=outcome.seconds,
                error=outcome.error,
                size=_size(self.root / outcome.name) if outcome.error is None else None,
            )
        self.journal.record(entries[outcome.name] for outcome in done)
        report.clipped_samples += sum(outcome.clipped_samples for outcome in done)
        report.made += sum(outcome.error is None for outcome in done)
        report.seconds += sum(outcome.seconds or 0.0 for outcome in done)
        return [outcome.unwritten for outcome in outcomes if outcome.unwritten is not None]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # made on another machine, and not to be seen here yet
        return None


def _remove_parts(targets: Iterable[Path]) -> None:
    """Remove what a killed run left half written."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(part_stem(target.name))
    for folder, mine in names.items():
        for part in folder.glob(".*.part"):
            if part.name[1:].rsplit(".", 2)[0] in mine:
                part.unlink(missing_ok=True)
