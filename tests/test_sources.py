"""Which files are audio, which are features, and which of them a folder holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tts_infer.errors import FileError
from tts_infer.io.sources import AUDIO_SUFFIXES, as_names, holds_features, mode_of, require_file, select, walk


@pytest.mark.parametrize(
    ("name", "features"),
    [("a.npy", True), ("a.b/c.NPZ", True), ("a.pt", True), ("a.safetensors", True), ("a.wav", False), ("npy", False)],
)
def test_the_suffix_decides(name: str, features: bool) -> None:
    assert holds_features(name) == holds_features(Path(name)) == features


def test_what_a_folder_holds(tmp_path: Path) -> None:
    for name in ("b.wav", "deep/a.FLAC", "deep/a.npy", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dead.wav").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    left_out: dict[str, str] = {}
    found = select(walk(tmp_path), AUDIO_SUFFIXES, left_out, "audio")
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["b.wav", "dead.wav", "deep/a.FLAC"]  # a link that leads nowhere fails later, with its name
    told = {Path(path).name: reason for path, reason in left_out.items()}
    assert told == {
        "a.npy": "its suffix is not that of audio",
        "notes.txt": "its suffix is not that of audio",
        "pipe.wav": "no regular file",
    }


def test_what_a_path_leads_to(tmp_path: Path) -> None:
    assert stat.S_ISDIR(mode_of(tmp_path))
    assert mode_of(tmp_path / "nothing") == mode_of("a\0.wav") == 0
    with pytest.raises(FileError, match=r"cannot read a{100}\.\.\.a{100}: File name too long"):
        mode_of("a" * 300)
    with pytest.raises(FileError, match="no such file: nothing") as caught:
        require_file("nothing")
    assert caught.value.code == "file-not-found"


def test_one_name_or_several() -> None:
    assert as_names("a") == as_names(Path("a")) == ["a"] and as_names(["a", Path("b")]) == ["a", "b"]
