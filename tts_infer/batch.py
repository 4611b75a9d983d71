"""Many files at once: exact ragged batches, resumable, by one of several engines that make the same bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from tts_infer.audio import SampleFormat, check_writable
from tts_infer.buckets import Bucket, Engine, Outcome, Task, bucket_frames, frames_of, group
from tts_infer.errors import FileError, InputError
from tts_infer.journal import Entry, Journal
from tts_infer.local_engine import run as run_here
from tts_infer.manifest import Container, Item, list_items
from tts_infer.vocoder import Vocoder

EngineName = Literal["local", "ray"]
Progress = Callable[[int, int, float], bool | None]


@dataclass
class BatchReport:
    """What became of a batch. `made` and `xrt` count this run; `outputs` and `failed` the whole job."""

    outputs: dict[str, float] = field(default_factory=dict)  # output name -> seconds of audio
    failed: dict[str, str] = field(default_factory=dict)  # output name -> reason
    made: int = 0
    clipped_samples: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0

    @property
    def xrt(self) -> float:
        """Seconds of audio made per second of this run."""
        return self.seconds / self.wall_s if self.wall_s else 0.0


def synthesize_batch(
    vocoder: Vocoder,
    inputs: Sequence[str | os.PathLike[str]],
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
    run ends with the bytes of an undisturbed one. A broken input is recorded with its reason, and the others go on.

    Args:
        vocoder: what decodes.
        inputs: see `tts_infer.manifest.list_items`.
        out_dir: folder of the outputs, made if it is missing.
        container: of outputs that no manifest names.
        sample_format: how samples are stored.
        journal: where progress is kept; None: beside `out_dir`, as `NAME.journal`.
        progress: called after each bucket with the files made in this run so far, those to make, and the seconds of
            audio made. False ends the batch early, with what was done kept; the report says nothing of the rest.
        engine: "local": this process; "ray": a Ray cluster, see `tts_infer.ray_engine`. A batch begun by one may be
            continued by the other.
        ray_address: of a running cluster; None: the one this process is connected to, else one on this machine.

    Raises:
        FileError, InputError: bad names, or no such engine here (before any work); a journal of other settings or in
            use; a full disk, with what was done kept.
    """
    run = _engine(engine, ray_address)
    root = Path(out_dir)
    items = list_items(inputs, root, container)
    settings = {
        "vocoder": vocoder.name,
        "placement": str(vocoder.placement),
        "dtype": vocoder.dtype,
        "refine": str(vocoder.refine),
        "sample_format": sample_format,
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder in {(root / item.output).parent for item in items}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make {root}: {error.strerror}") from None
    for item in items:
        check_writable(root / item.output, sample_format)
    with Journal(Path(journal) if journal else root.with_name(f"{root.name}.journal"), settings) as kept:
        return _Job(vocoder, root, sample_format, kept, progress).run(items, run)


def _engine(name: EngineName, ray_address: str | None) -> Engine:
    if name not in get_args(EngineName):
        raise InputError(f"engine is {name!r}; allowed: {', '.join(get_args(EngineName))}")
    if name == "local":
        if ray_address is not None:
            raise InputError("a Ray address is given, but the engine is 'local'; use engine 'ray'")
        return run_here
    from tts_infer.ray_engine import run as run_on_ray

    return partial(run_on_ray, address=ray_address)


def _fingerprint(source: Path) -> str:
    """Changes when the file does. A missing one has its own."""
    try:
        stat = source.stat()
    except OSError:
        return f"{source}:missing"
    return f"{source}:{stat.st_size}:{stat.st_mtime_ns}"


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
        """Every item's entry: the one it had, if its source is as it was, else a new one in a new bucket."""
        known = self.journal.entries()
        current = {str(item.output): _fingerprint(item.source) for item in items}
        new = {
            str(item.output): frames_of(item.source, self.vocoder.mel_config)
            for item in items
            if (entry := known.get(str(item.output))) is None or entry.fingerprint != current[entry.output]
        }
        first = 1 + max((entry.bucket for entry in known.values()), default=0)
        grouped = group(new, first, bucket_frames(self.vocoder))
        planned = [Entry(output, current[output], bucket) for output, bucket in grouped]
        self.journal.record(planned)
        return known | {entry.output: entry for entry in planned}

    def _waiting(self, items: Sequence[Item], entries: dict[str, Entry]) -> list[Bucket]:
        """The buckets that hold something to do, whole."""
        sources = {str(item.output): item.source for item in items}
        ordered = sorted((entries[output] for output in sources), key=lambda e: e.bucket)
        buckets = [list(group) for _, group in groupby(ordered, key=lambda e: e.bucket)]
        return [
            [Task(entry.output, sources[entry.output], self.root / entry.output) for entry in bucket]
            for bucket in buckets
            if not all(map(self._is_settled, bucket))
        ]

    def _is_settled(self, entry: Entry) -> bool:
        return entry.error is not None or (entry.seconds is not None and (self.root / entry.output).is_file())

    def _finish(self, outcomes: list[Outcome], entries: dict[str, Entry], report: BatchReport) -> list[str]:
        """Note what is there, and return why the rest could not be written."""
        done = [outcome for outcome in outcomes if outcome.unwritten is None]
        for outcome in done:
            entries[outcome.name] = replace(entries[outcome.name], seconds=outcome.seconds, error=outcome.error)
        self.journal.record(entries[outcome.name] for outcome in done)
        report.clipped_samples += sum(outcome.clipped_samples for outcome in done)
        report.made += sum(outcome.error is None for outcome in done)
        report.seconds += sum(outcome.seconds or 0.0 for outcome in done)
        return [outcome.unwritten for outcome in outcomes if outcome.unwritten is not None]


def _remove_parts(targets: Iterable[Path]) -> None:
    """Remove what a killed run left half written."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(target.name)
    for folder, mine in names.items():
        for part in folder.glob(".*.part"):
            if part.name[1:].rsplit(".", 2)[0] in mine:
                part.unlink(missing_ok=True)
