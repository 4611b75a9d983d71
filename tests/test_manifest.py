"""From what users name to what is made, with every bad name refused before work."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tts_infer.batch.manifest import list_items
from tts_infer.errors import FileError, InputError


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


def test_csv_as_spreadsheets_and_people_write_it(tree: Path) -> None:
    rows = "input , output, note\r\nin/a.wav, x/one.flac, n\r\n\r\n" + '"in/deep/c.npy", "a, b"'
    Path("m.csv").write_text(rows, encoding="utf-8-sig")
    assert outputs("m.csv") == ["a, b.wav", "x/one.flac"]
    Path("m.jsonl").write_text('{"input": "in/a.wav", "output": null}\n', encoding="utf-8-sig")
    assert outputs("m.jsonl") == ["a.wav"]


ROW = "manifest m.jsonl, row 2: "


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"input": "a.wav", "output": 5}', ROW + "output 5 names no file; give its name as text"),
        ('{"input": "a.wav", "output": ["x"]}', ROW + "output ['x'] names no file"),
        ('{"input": "a.wav", "output": false}', ROW + "output False names no file"),
        ('{"input": "a.wav", "output": "."}', ROW + "output '.' names no file"),
        ('{"input": "a.wav", "output": "x\\u0000"}', ROW + "output 'x\\x00' names no file"),
        ('{"input": "a.wav", "output": "\\ud800"}', ROW + "output '\\ud800' names no file"),
        ('{"input": "/"}', ROW + "input '/' names no file"),
        ('{"input": "in/.."}', ROW + "input 'in/..' names no file"),
        ('{"input": "."}', ROW + "input '.' names no file"),
        ('{"input": "x\\u0000.wav"}', ROW + "input 'x\\x00.wav' names no file"),
        ('{"input": 5}', ROW + "input 5 names no file"),
        ("5", ROW + "expected an 'input' name, and optionally an 'output' name"),
        ("[" * 100_000, "cannot read manifest m.jsonl, row 2: it is nested too deeply"),
        ('{"input": 1' + "0" * 5000 + "}", "cannot read manifest m.jsonl, row 2: Exceeds the limit"),
        ('{"input" "a.wav"}', "cannot read manifest m.jsonl, row 2: Expecting ':' delimiter, column 10"),
    ],
)
def test_rows_that_say_nothing(tree: Path, row: str, message: str) -> None:
    Path("m.jsonl").write_text('{"input": "in/a.wav"}\n' + row)
    with pytest.raises(FileError) as caught:
        outputs("m.jsonl")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", b"\n", "manifest m.jsonl holds no rows"),
        ("m.csv", b"", "manifest m.csv holds no rows"),
        ("m.csv", b"input,output\n", "manifest m.csv holds no rows"),
        ("m.csv", b"input\ncaf\xe9.wav\n", "cannot read manifest m.csv: it is not UTF-8 text; save it as UTF-8"),
    ],
)
def test_manifests_that_name_nothing(tree: Path, name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(FileError, match=message):
        outputs(name)


def test_names_that_are_too_long(tree: Path) -> None:
    """A name that no file can have is no missing file."""
    with pytest.raises(FileError, match=r"cannot read a{100}\.\.\.a{96}\.wav: File name too long"):
        outputs("a" * 300 + ".wav")
    Path("m.jsonl").write_text(json.dumps({"input": "in/a.wav", "output": "x" * 251 + "/y"}))
    assert len(outputs("m.jsonl")) == 1
    for output in ("\u00e9" * 126, "x" * 256 + "/y"):  # bytes count
        Path("m.jsonl").write_text(json.dumps({"input": "in/a.wav", "output": output}))
        with pytest.raises(InputError, match="of in/a.wav: a name may have 255 bytes"):
            outputs("m.jsonl")


def test_names_of_any_bytes(tree: Path) -> None:
    name = os.fsdecode(b"in/caf\xe9")
    Path(f"{name}.npy").touch()
    assert os.fsdecode(b"caf\xe9.wav") in outputs("in")
    Path(f"{name}.ogg").touch()
    assert len(outputs(f"{name}.ogg")) == 1


Refuse = Callable[[str, str], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let a function of the system refuse a path, also to an administrator, who may do everything."""

    def patch(function: str, path: str) -> None:
        real: Callable[..., Any] = getattr(os, function)

        def refusing(given: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if not isinstance(given, int) and os.path.normpath(given) == path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(given))
            return real(given, *args, **kwargs)

        monkeypatch.setattr(os, function, refusing)

    return patch


@pytest.mark.parametrize(
    ("function", "path", "given", "message"),
    [
        ("stat", "in/deep/c.npy", "in/deep/c.npy", "cannot read in/deep/c.npy: Permission denied"),
        ("stat", "in/deep/c.npy", "in", "cannot read in/deep/c.npy: Permission denied"),
        ("stat", "in/deep/c.npy", "in/*/*", "cannot read in/deep/c.npy: Permission denied"),
        ("scandir", "in", "in", "cannot read in: Permission denied"),
        ("scandir", "in/deep", "in", "cannot read in/deep: Permission denied"),
        ("scandir", "in/deep", "in/deep/*.npy", "cannot read in/deep: Permission denied"),
    ],
)
def test_what_the_system_refuses(
    tree: Path, refuse: Refuse, function: str, path: str, given: str, message: str
) -> None:
    refuse(function, path)
    with pytest.raises(FileError, match=message):
        outputs(given)


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("in", "in"),
        ("in", "in/new"),
        (".", "out"),
        ("in", "link/new"),
        ("in/**", "in/new"),
        ("in/**/*.wa?", "in/new"),
        ("in/deep/*.*", "in/deep"),
        ("in/*/*.npy", "in"),  # not found, but as deep as what is
        ("nested", "."),
    ],
)
def test_the_next_run_might_find_the_outputs(tree: Path, given: str, out: str) -> None:
    """The same call again must have the same to do."""
    Path("nested/nested").mkdir(parents=True)
    Path("nested/nested/c.npy").touch()
    Path("link").symlink_to("in")
    with pytest.raises(InputError, match=re.escape(f"lies where {given!r} searches for inputs, so the next run")):
        list_items([given], Path(out), "wav")


@pytest.mark.parametrize(
    ("given", "out"),
    [("in", "."), ("in/*/*.npy", "in/new"), ("in/deep/*", "in"), ("in/*.wav", "in/new"), ("in", "in2")],
)
def test_the_next_run_finds_the_same(tree: Path, given: str, out: str) -> None:
    found = list_items([given], Path(out), "wav")
    for item in found:
        target = Path(out) / item.output
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    assert list_items([given], Path(out), "wav") == found


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (["missing.wav"], FileError, "no such file: missing.wav"),
        (["in/*.ogg"], FileError, "in/.*.ogg holds no inputs"),
        (["out_only"], FileError, "out_only holds no inputs; wanted: audio"),
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


def test_a_file_is_no_folder(tree: Path) -> None:
    rows = [{"input": "a.wav", "output": "x.wav"}, {"input": "a.wav", "output": "x.wav/deep/y.wav"}]
    (tree / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"output 'x.wav/deep/y.wav' would lie in 'x.wav', which is an output, too"):
        list_items([str(tree / "m.jsonl")], tree / "out", "wav")
