"""Speech over HTTP: real voices, the real client of OpenAI, the command, the page; and nothing leaves this machine."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

import app
import tts_infer
from tests.conftest import ROOT
from tests.serving import served
from tests.test_live import all_of, run

SPEECH = "/v1/audio/speech"
TEXT = "Hello there. How are you?"


@pytest.fixture(scope="module")
def speakers(vocoder: tts_infer.Vocoder) -> list[tts_infer.Speaker]:
    return tts_infer.load_speakers([vocoder], device="cpu")


@pytest.fixture(scope="module")
def client(vocoder: tts_infer.Vocoder, speakers: list[tts_infer.Speaker]) -> Iterator[httpx.Client]:
    server = tts_infer.ServerApp([vocoder], tts_infer.ServerSettings(max_characters=200), speakers)
    with served(server) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def n_samples(speaker: tts_infer.Speaker, text: str, speed: float = 1.0) -> int:
    """The noise in a voice differs each time, but never the length."""
    return int(speaker.speak(text, speed=speed).audio.shape[1])


@pytest.mark.parametrize("kind", ["wav", "pcm", "flac"])
@pytest.mark.parametrize("stream", [True, False])
def test_it_speaks(client: httpx.Client, speakers: list[tts_infer.Speaker], kind: str, stream: bool) -> None:
    asked = {"input": TEXT, "voice": "heart", "response_format": kind, "stream": stream}
    answer = client.post(SPEECH, json=asked)
    assert answer.status_code == 200
    is_streamed = stream and kind != "flac"
    assert ("content-length" not in answer.headers) == is_streamed
    if kind == "pcm":
        samples = np.frombuffer(answer.content, "<i2")
    else:
        samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
        assert rate == 24000
        assert kind == "wav" or b"Synthetic speech. Voice: hibari/heart." in answer.content
        assert kind == "flac" or b"synthetic voice" in answer.content[:300]
    assert len(samples) == n_samples(speakers[0], TEXT)
    assert 0.05 < np.abs(samples / 32768).max() < 1  # speech, not silence


def test_a_vocoder_behind_the_voice(client: httpx.Client, speakers: list[tts_infer.Speaker]) -> None:
    model = speakers[1].vocoder
    assert model is not None
    answer = client.post(SPEECH, json={"input": TEXT, "model": model.name, "response_format": "pcm", "speed": 2})
    assert len(answer.content) == 2 * n_samples(speakers[1], TEXT, speed=2)
    models = {one["id"]: one for one in client.get("/v1/models").json()["data"]}
    assert models["hibari"]["voices"] == models[model.name]["voices"] == ["heart"]
    assert models[model.name]["decodes"] and not models["hibari"]["decodes"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "json-invalid"),
        (b"\xff\xfe\xfd", 400, "json-invalid"),
        (b"[" * 5000, 400, "json-invalid"),
        (b'["input"]', 400, "config-mapping"),
        (b'{"input": "a", "input": "b"}', 400, "json-invalid"),
        (b"{}", 400, "config-key-missing"),
        (b'{"input": 3}', 400, "config-type"),
        (b'{"input": "a", "vioce": "heart"}', 400, "config-key-unknown"),
        (b'{"input": "a", "instructions": "softly"}', 400, "config-type"),
        (b'{"input": "a", "response_format": "aac"}', 400, "config-type"),
        (b'{"input": "a", "speed": 9}', 400, "speed-range"),
        (b'{"input": "a", "speed": NaN}', 400, "config-type"),
        (b'{"input": " "}', 400, "text-empty"),
        (b'{"input": "a", "voice": "nobody"}', 404, "server-voice"),
        (b'{"input": "a", "model": "tts-1"}', 404, "server-model"),
        (b'{"input": "%s"}' % (b"a" * 201), 400, "server-text-long"),
        (b'{"input": "%s"}' % (b"a" * 9000), 413, "server-large"),
    ],
)
def test_a_wrong_body_is_refused(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    answer = client.post(SPEECH, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_what_is_no_json_by_name_is_refused(client: httpx.Client) -> None:
    answer = client.post(SPEECH, content=b'{"input": "a"}', headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "server-content-type")


def test_words_that_are_left_out_are_told(client: httpx.Client) -> None:
    with pytest.warns(UserWarning, match="left out of the speech"):
        answer = client.post(SPEECH, json={"input": "Hello 你好."})
    assert "left out: \\u4f60\\u597d" in answer.headers["x-tts-infer-warning"]


def test_the_real_client_of_openai_speaks(client: httpx.Client, speakers: list[tts_infer.Speaker]) -> None:
    with openai.OpenAI(base_url=str(client.base_url.join("/v1")), api_key="none", max_retries=0) as theirs:
        made = theirs.audio.speech.create(model="hibari", voice="heart", input=TEXT, response_format="flac", speed=1.5)
        samples, rate = soundfile.read(io.BytesIO(made.content))
        assert (len(samples), rate) == (n_samples(speakers[0], TEXT, speed=1.5), 24000)
        streamed = theirs.audio.speech.with_streaming_response.create(
            model="hibari", voice="heart", input=TEXT, response_format="pcm"
        )
        with streamed as pieces:
            assert sum(map(len, pieces.iter_bytes())) == 2 * n_samples(speakers[0], TEXT)
        with pytest.raises(openai.NotFoundError, match="voice 'alloy' is not here; allowed: heart"):
            theirs.audio.speech.create(model="hibari", voice="alloy", input=TEXT)


def test_a_server_without_a_voice_says_so(vocoder: tts_infer.Vocoder) -> None:
    server = tts_infer.ServerApp([vocoder], tts_infer.ServerSettings())
    with served(server) as url:
        answer = httpx.post(f"{url}{SPEECH}", json={"input": "Hello."})
    assert answer.status_code == 404 and "pip install 'tts-infer[speak]'" in answer.json()["error"]["message"]


def test_live_speech_of_texts_as_they_come(speakers: list[tts_infer.Speaker]) -> None:
    async def written() -> AsyncIterator[str]:
        for sentence in ("Hello there.", "How are you?"):
            yield sentence

    for texts in (written(), ["Hello there.", "How are you?"]):
        frames = run(all_of(tts_infer.live_speech(speakers[0], texts)))
        both = n_samples(speakers[0], "Hello there.") + n_samples(speakers[0], "How are you?")
        assert {len(frame) for frame in frames} == {480} and len(frames) == -(-both // 480)
    with pytest.raises(tts_infer.InputError, match="there is no text"):
        run(all_of(tts_infer.live_speech(speakers[0], [])))


def page_routes(*arguments: str) -> list[Any]:
    return app.server_routes(app.parse(arguments))


@pytest.mark.slow
def test_the_page_has_the_endpoints_too() -> None:
    demo = app.build_demo(device="cpu")
    options = app.launch_options() | {"app_kwargs": {"routes": page_routes("--device", "cpu", "--api-key", "k")}}
    try:
        _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **options)
        key = {"authorization": "Bearer k"}
        assert httpx.get(f"{url}health").json()["status"] == "ok" and "gradio" in httpx.get(url).text
        assert httpx.post(f"{url}v1/audio/speech", json={"input": "Hello."}).status_code == 401
        made = httpx.post(f"{url}v1/audio/speech", json={"input": "Hello."}, headers=key)
        assert made.content.startswith(b"RIFF")
        foreign = key | {"origin": "https://evil.example"}
        assert httpx.post(f"{url}v1/audio/speech", json={"input": "Hello."}, headers=foreign).status_code == 403
        assert httpx.get(f"{url}v1/models", headers=key | {"host": "evil.example"}).status_code == 403
    finally:
        demo.close(verbose=False)


def test_a_page_with_a_password_has_no_open_endpoints() -> None:
    assert page_routes("--device", "cpu", "--auth", "me:secret") == []


# Every connection that Python opens is checked; the last one proves that the check would notice.
OFFLINE = """
import socket, sys
seen = []
def check(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        seen.append(arguments[1][0])
    if event == "socket.getaddrinfo":
        seen.append(arguments[0])
sys.addaudithook(check)
import httpx, numpy, tts_infer
from tests.serving import served
vocoder = tts_infer.load_vocoder(device="cpu")
try:
    tts_infer.load_vocoder("charactr/vocos-mel-24khz")
    raise SystemExit("it is here")
except tts_infer.VocoderNotFoundError:
    pass
with served(tts_infer.ServerApp([vocoder], tts_infer.ServerSettings(), tts_infer.load_speakers([vocoder]))) as url:
    assert httpx.post(url + "/v1/audio/speech", json={"input": "Hello."}).status_code == 200
foreign = {host for host in seen if host not in ("127.0.0.1", "localhost", b"127.0.0.1")}
assert not foreign and seen, foreign
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.01)
except OSError:
    pass
assert "192.0.2.1" in seen
"""


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE"])
def test_offline_nothing_but_this_machine_is_called(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch, "1")
    done = subprocess.run([sys.executable, "-c", OFFLINE], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_serves_until_it_is_asked_to_end() -> None:
    command = [sys.executable, "-m", "tts_infer", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().rpartition(" ")[2].strip()
        assert httpx.post(f"{url}{SPEECH}", json={"input": "Hello."}, timeout=60).content.startswith(b"RIFF")
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_what_cannot_be_served_is_one_line(vocoder: tts_infer.Vocoder) -> None:
    with pytest.raises(tts_infer.InputError, match=r"cannot listen on 192\.0\.2\.1, port 80: .*; give another host"):
        tts_infer.serve([vocoder], "192.0.2.1", 80)
