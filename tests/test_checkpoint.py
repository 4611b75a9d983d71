"""From a name to weights: directories, the Hub cache, a Hub that the test serves itself, and what is refused."""

from __future__ import annotations

import hashlib
import http.server
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tts_infer
from tts_infer.errors import CheckpointError, ConfigError, VocoderNotFoundError
from tts_infer.vocoders import family_of
from tts_infer.vocoders.checkpoint import ASSETS, load_model, resolve
from tts_infer.vocoders.weights import read_weights

EMBEDDED = ASSETS / "vocos-mini-24khz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEL = torch.randn(1, 100, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "vocoder"))


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def test_a_local_directory(directory: Path, vocoder: tts_infer.Vocoder) -> None:
    loaded = tts_infer.load_vocoder(directory, device="cpu")
    assert torch.equal(loaded.decode(MEL), vocoder.decode(MEL))
    assert loaded.name == str(directory)


def test_a_pickled_state_dict(directory: Path, vocoder: tts_infer.Vocoder) -> None:
    torch.save(weights_of(directory), directory / "pytorch_model.bin")
    os.remove(directory / "model.safetensors")
    assert torch.equal(tts_infer.load_vocoder(directory, device="cpu").decode(MEL), vocoder.decode(MEL))


def test_safetensors_come_first(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(b"never opened")
    assert resolve(directory).weights.name == "model.safetensors"


def test_the_model_is_ready_to_infer() -> None:
    model = load_model(resolve("vocos-mini-24khz"))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) == 3_620_610  # the figure of the model card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.out.bias"), "missing: head.out.bias"),
        (lambda w: w.update({"extra": torch.zeros(1)}), "surplus: extra"),
        (
            lambda w: w.update({"head.out.bias": torch.zeros(3)}),
            r"another shape: head.out.bias \(3,\) instead of \(1026",
        ),
        (lambda w: w.update({"head.out.bias": torch.full((1026,), float("nan"))}), "NaN or infinite: head.out.bias"),
        (lambda w: w.update({"head.out.bias": torch.full((1026,), float("inf"))}), "NaN or infinite: head.out.bias"),
        (lambda w: w.update({"head.out.bias": torch.zeros(1026).long()}), "not floating point: head.out.bias"),
        (lambda w: (w.pop("head.out.bias"), w.update(a=torch.zeros(1))), "1 missing: head.out.bias; 1 surplus: a"),
        (lambda w: w["head.istft.window"].mul_(0.5), "stored head.istft.window differs"),
        (
            lambda w: w["feature_extractor.mel_spec.mel_scale.fb"].mul_(0.5),
            "stored feature_extractor.mel_spec.mel_scale.fb differs .* trained on another mel convention",
        ),
    ],
)
def test_weights_that_do_not_fit(directory: Path, change: Any, message: str) -> None:
    weights = weights_of(directory)
    change(weights)
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(resolve(directory))
    assert "\n" not in str(caught.value)


def test_damaged_and_harmful_files(directory: Path, tmp_path: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot read weights from .*model.safetensors"):
        load_model(resolve(directory))
    weights.unlink()
    trace = tmp_path / "trace"

    class Harmful:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    torch.save({"head.out.bias": Harmful()}, directory / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match=r"pytorch_model.bin holds whole objects \(.*\), and to read these would run"
    ):
        load_model(resolve(directory))
    assert not trace.exists()
    torch.save([torch.zeros(1)], directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no named tensors, but a list; it must be a state dict"):
        read_weights(directory / "pytorch_model.bin")


def test_a_directory_that_is_no_vocoder(tmp_path: Path) -> None:
    with pytest.raises(VocoderNotFoundError, match="must hold config.yaml and model.safetensors or pytorch_model.bin"):
        resolve(tmp_path)


@pytest.mark.parametrize("name", ["nope", "./nope", "/no/pe", "a/b/c", "my dir/voc", "a/b--c", "x" * 300])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(
        VocoderNotFoundError, match="neither a local directory or file, nor a Hub id .* one of: vocos-mini-24khz"
    ):
        resolve(name)


# The Hub: real client, real cache layout, a server of the test's own.

LOAD = "import sys, tts_infer; print(tts_infer.load_vocoder(sys.argv[1], device='cpu').name)"


def load_elsewhere(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load a vocoder in a process of its own: the Hub client reads its environment when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-c", LOAD, name], env=kept | environment, capture_output=True, text=True, timeout=120,
        cwd=ASSETS.parent.parent,
    )  # fmt: skip


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """HF_HOME with one cached repository of pickled weights, as the Hub client lays it out."""
    repository = tmp_path / "hub" / "models--someone--a-vocoder"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copy(EMBEDDED / "config.yaml", snapshot)
    torch.save(weights_of(EMBEDDED), snapshot / "pytorch_model.bin")
    return tmp_path


def test_a_cached_repository_needs_no_network(hub_cache: Path) -> None:
    # an endpoint where nothing listens: any request would fail
    done = load_elsewhere("someone/a-vocoder", HF_HOME=str(hub_cache), HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "someone/a-vocoder\n", "")


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe\0", b"../../../../etc", b"b" * 40],
    ids=["empty", "no text", "a path", "no snapshot"],
)
def test_a_damaged_cache_is_one_line(hub_cache: Path, damage: bytes) -> None:
    (hub_cache / "hub" / "models--someone--a-vocoder" / "refs" / "main").write_bytes(damage)
    done = load_elsewhere("someone/a-vocoder", HF_HOME=str(hub_cache), HF_ENDPOINT="http://127.0.0.1:9")
    last = done.stderr.strip().split("\n")[-1]
    assert "someone/a-vocoder, revision 'main', is not whole in the Hub cache, which has: main" in last
    assert "VocoderNotFoundError" in last and "or remove it from" in last


def test_links_out_of_a_snapshot_are_refused(hub_cache: Path, tmp_path: Path) -> None:
    config = hub_cache / "hub" / "models--someone--a-vocoder" / "snapshots" / COMMIT / "config.yaml"
    blob = hub_cache / "hub" / "models--someone--a-vocoder" / "blob"
    config.rename(blob)
    config.symlink_to(blob)  # as the client links them
    done = load_elsewhere("someone/a-vocoder", HF_HOME=str(hub_cache), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    config.unlink()
    config.symlink_to(EMBEDDED / "config.yaml")
    done = load_elsewhere("someone/a-vocoder", HF_HOME=str(hub_cache), HF_ENDPOINT="http://127.0.0.1:9")
    assert "config.yaml in the Hub cache links to" in done.stderr and "outside of its repository" in done.stderr


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"HF_ENDPOINT": "http://127.0.0.1:9"}, "ConnectError"), ({"HF_HUB_OFFLINE": "1"}, "OfflineModeIsEnabled")],
)
def test_not_cached_and_no_network(tmp_path: Path, environment: dict[str, str], reason: str) -> None:
    done = load_elsewhere("charactr/vocos-mel-24khz", HF_HOME=str(tmp_path), **environment)
    last = done.stderr.strip().split("\n")[-1]
    begin = str(tmp_path)[:12]  # the rest may be cut, so that the message stays below 300 characters
    assert f"'charactr/vocos-mel-24khz' is not in the Hub cache ({begin}" in last and reason in last
    assert "give a local directory" in last and "embedded 'vocos-mini-24khz'" in last
    assert "Retry" not in done.stderr


class _HubHandler(http.server.BaseHTTPRequestHandler):
    """The few answers of a Hub that a download asks for."""

    files: dict[str, bytes]
    tokens: set[str | None]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        repository, _, path = self.path.partition("/resolve/")
        if path:  # the client asks other things too, without its token
            self.tokens.add(self.headers.get("Authorization"))
        revision, _, filename = path.partition("/")
        content = self.files.get(filename) if (repository, revision) == ("/someone/else", "v2") else None
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[_HubHandler]]]:
    """A Hub on this machine that holds someone/else at revision v2."""
    files = {f: (EMBEDDED / f).read_bytes() for f in ("config.yaml", "model.safetensors")}
    handler = type("Handler", (_HubHandler,), {"files": files, "tokens": set()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()


def test_a_download_from_a_hub(hub: tuple[str, type[_HubHandler]], tmp_path: Path) -> None:
    endpoint, handler = hub
    load = "import tts_infer; print(tts_infer.load_vocoder('someone/else', device='cpu', revision='v2').name)"
    environment = os.environ | {
        "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", load], env=environment, capture_output=True, text=True, cwd=ASSETS.parent.parent
        )
        assert (done.returncode, done.stdout) == (0, "someone/else\n"), done.stderr
        assert handler.tokens == {"Bearer hf_test"}  # the token is honoured
        environment["HF_ENDPOINT"] = "http://127.0.0.1:9"  # the second time it comes from the cache
    wrong = load_elsewhere("someone/else", HF_HOME=str(tmp_path / "other"), HF_ENDPOINT=endpoint)
    assert "someone/else on the Hub is no vocoder" in wrong.stderr  # its main branch holds nothing


REFUSALS = {
    "private": (401, "RepoNotFound", "Invalid username or password.", "check the name; if it is private, log in with"),
    "gated": (
        403,
        "GatedRepo",
        "Access is restricted.",
        "is gated: ask for access on its page, http.*/someone/gated, the",
    ),
    "rate": (
        429,
        "",
        "Rate limited.",
        "limits how often this address may ask .*: wait some minutes; for a higher limit",
    ),
    "revision": (404, "RevisionNotFound", "Invalid rev id: v2", "has no revision 'main'; its branches and tags are on"),
    "entry": (
        404,
        "EntryNotFound",
        "Entry not found",
        "on the Hub is no vocoder: it must hold config.yaml and model.sa",
    ),
    "down": (503, "", "", "the Hub does not work at the moment .someone/down: status 503.; try again later"),
}


def test_what_a_hub_refuses(tmp_path: Path) -> None:
    """Each refusal says what helps, and what the Hub itself says."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status, kind, said, _ = REFUSALS[self.path.split("/")[2]]
            self.send_response(status)
            for name, value in (("X-Error-Code", kind), ("X-Error-Message", said), ("Content-Length", "0")):
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815  the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
import sys
from tts_infer.vocoders.checkpoint import resolve
for name in sys.argv[1:]:
    try:
        resolve(name)
    except FileNotFoundError as error:
        print(error)
"""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
    done = subprocess.run(
        [sys.executable, "-c", code, *(f"someone/{name}" for name in REFUSALS)], env=kept, capture_output=True,
        text=True, timeout=300, cwd=ASSETS.parent.parent,
    )  # fmt: skip
    server.shutdown()
    server.server_close()
    lines = done.stdout.splitlines()
    assert len(lines) == len(REFUSALS), done.stderr
    for line, (name, (_, _, said, message)) in zip(lines, REFUSALS.items(), strict=True):
        assert re.search(message, line) and len(line) <= 300, line
        assert line.startswith(("the Hub", f"someone/{name}")) and (not said or said in line or name == "entry")


def test_a_known_hub_vocoder_brings_its_convention(directory: Path) -> None:
    known = tts_infer.known_vocoders()["vocos-mel-22khz"]
    files = resolve(directory)
    with pytest.raises(ConfigError, match="sample_rate is 24000, but vocoder 'vocos-mel-22khz' is known with 22050"):
        load_model(type(files)(known.name, files.config, files.weights, known))


@pytest.mark.parametrize("content", [b"", b".", b"\x80\x02.", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(30)])
def test_files_that_are_no_pickle(directory: Path, content: bytes) -> None:
    (directory / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="weights.*; fetch the file again|is empty; fetch") as caught:
        read_weights(directory / "pytorch_model.bin")
    assert "\n" not in str(caught.value)


def test_old_files_that_were_cut(directory: Path) -> None:
    path = directory / "pytorch_model.bin"
    torch.save({"a": torch.zeros(9), "b": torch.ones(2, 3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cannot read weights|is empty"):
            read_weights(path)


@pytest.mark.parametrize(
    "change", [lambda t: t * math.nan, lambda t: t.to(torch.complex64), lambda t: t.to(torch.int8)]
)
def test_stored_constants_that_say_nothing(directory: Path, change: Any) -> None:
    model = load_model(resolve(directory))
    stored = family_of(model).constants(model)
    (directory / "model.safetensors").unlink(missing_ok=True)  # releases before 0.7 hold no complex numbers
    torch.save({**model.state_dict(), **{k: change(t) for k, t in stored.items()}}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="differs from the one that config.yaml describes"):
        load_model(resolve(directory))
