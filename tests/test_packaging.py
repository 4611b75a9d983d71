"""What `pip install .` installs works from elsewhere, with its configs and the embedded vocoder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_works_from_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"  # built from a copy, so that the tree stays clean
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in files.stdout.splitlines():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run([*map(str, pip)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        entry_points = next(n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "tts-infer = tts_infer.__main__:main" in archive.read(entry_points).decode()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "tts_infer", "decode", str(ROOT / "examples" / "english.wav"), "-o", "out.wav"]
    subprocess.run(
        [*command, "--placement", "cpu"], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    code = "import tts_infer; print(tts_infer.__file__, len(tts_infer.known_vocoders()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    where, count = done.stdout.split()
    assert where.startswith(str(tmp_path)) and int(count) == len(list((ROOT / "configs" / "vocoders").glob("*.yaml")))
    assert (tmp_path / "out.wav").stat().st_size > 100_000  # 3 seconds of 16-bit samples
