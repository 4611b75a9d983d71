"""From what users name to what is made, with every bad name refused before work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tts_infer.errors import FileError, InputError
from tts_infer.manifest import list_items


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.wav", "in/deep/b.flac", "in/deep/c.npy", "in/notes.txt", "single.mp3"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def outputs(*inputs: str, container: str = "wav") -> list[str]:
    return [item.output.as_posix() for item in list_items(inputs, Path("out"), container)]  # type: ignore[arg-type]


def test_files_folders_and_globs(tree: Path) -> None:
    assert outputs("in") == ["a.wav", "deep/b.wav", "deep/c.wav"]
    assert outputs("in", "single.mp3", container="flac") == ["a.flac", "deep/b.flac", "deep/c.flac", "single.flac"]
    assert outputs("in/*/*.npy") == ["deep/c.wav"]
    assert outputs("in/**/*") == ["a.wav", "deep/b.wav", "deep/c.wav"]


def test_manifests(tree: Path) -> None:
    rows = [
        {"input": "in/a.wav", "output": "x/one.flac"},
        {"input": "in/deep/c.npy"},
        {"input": "gone.wav", "output": "n"},
    ]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert outputs("m.jsonl") == ["c.wav", "n.wav", "x/one.flac"]
    Path("m.csv").write_text("input,output\nin/a.wav,x/one.flac\nin/deep/c.npy,\n")
    items = list_items(["m.csv"], Path("out"), "wav")
    assert [(i.source.as_posix(), i.output.as_posix()) for i in items] == [
        ("in/deep/c.npy", "c.wav"),
        ("in/a.wav", "x/one.flac"),
    ]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (["missing.wav"], FileError, "no such file: missing.wav"),
        (["in/*.ogg"], FileError, "in/.*.ogg holds no inputs"),
        (["out_only"], FileError, "out_only holds no inputs; wanted: .wav"),
        (["in/a.wav", "in/deep/../a.wav"], InputError, "1 output names are taken twice, 'a.wav' by in/a.wav, in/deep"),
        (["leave.jsonl"], InputError, "output '../x.wav' of in/a.wav would leave out"),
        (["absolute.jsonl"], InputError, "output '/x.wav' of in/a.wav would leave out"),
        (["container.jsonl"], InputError, "output 'x.mp3' of in/a.wav: allowed: .wav, .flac"),
        (["replace.jsonl"], InputError, "output out/a.wav would replace an input"),
        (["broken.jsonl"], FileError, "cannot read manifest broken.jsonl"),
        (["empty.jsonl"], FileError, "manifest empty.jsonl, row 1: expected an 'input' name"),
        (["list.jsonl"], FileError, "row 1: expected an 'input' name"),
    ],
)
def test_refused(tree: Path, inputs: list[str], error: type[Exception], message: str) -> None:
    for name in ("out/a.wav", "out_only/x.txt"):
        Path(name).parent.mkdir()
        Path(name).touch()
    for name, row in {
        "leave": {"input": "in/a.wav", "output": "../x.wav"},
        "absolute": {"input": "in/a.wav", "output": "/x.wav"},
        "container": {"input": "in/a.wav", "output": "x.mp3"},
        "replace": {"input": "out/a.wav"},
        "empty": {"output": "x.wav"},
        "list": ["in/a.wav"],
    }.items():
        Path(f"{name}.jsonl").write_text(json.dumps(row))
    Path("broken.jsonl").write_text("{")
    with pytest.raises(error, match=message) as caught:
        outputs(*inputs)
    assert "\n" not in str(caught.value)
