"""The server over real connections: what it decodes, whom it refuses, and what is left when a client goes away."""

from __future__ import annotations

import io
import json
import socket
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import openai
import pytest
import soundfile
import torch

import tts_infer
from tests.serving import served, until
from tts_infer import ServerSettings

DECODE = "/v1/audio/decode"
LONG = np.full((100, 40_000), -5, np.float32)  # seven minutes: more than a client takes before it goes away


def npy(array: Any) -> bytes:
    """What numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@contextmanager
def server(vocoder: tts_infer.Vocoder, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server with these settings."""
    app = tts_infer.ServerApp([vocoder], ServerSettings(**settings))
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def client(vocoder: tts_infer.Vocoder) -> Iterator[httpx.Client]:
    with server(vocoder) as client:
        yield client


@pytest.fixture(scope="module")
def mel(vocoder: tts_infer.Vocoder, speech: torch.Tensor) -> np.ndarray:
    return vocoder.mel(speech[:, :30000])[0].numpy()


@pytest.fixture(scope="module")
def expected(vocoder: tts_infer.Vocoder, mel: np.ndarray) -> np.ndarray:
    return tts_infer.to_int16(vocoder.decode(mel)[0])[0]


def metric(client: httpx.Client, name: str) -> float:
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"tts_infer_{name} ")]
    return float(line.split()[1])


def require_same(samples: np.ndarray, expected: np.ndarray) -> None:
    """Pieces round otherwise than one decode: by 1e-4 of the peak at most (docs/streaming.md), and to whole numbers."""
    assert samples.shape == expected.shape
    assert np.abs(samples.astype(int) - expected).max() <= 1e-4 * np.abs(expected).max() + 1


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_mel_is_decoded(client: httpx.Client, mel: np.ndarray, expected: np.ndarray, kind: str, stream: str) -> None:
    answer = client.post(DECODE, params={"response_format": kind, "stream": stream}, content=npy(mel))
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"audio/{kind}")
    assert int(answer.headers["content-length"]) == len(answer.content)
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert rate == 24000
    require_same(samples, expected)


@pytest.mark.parametrize("layout", [lambda m: m[None], lambda m: np.asfortranarray(m), lambda m: m.astype(">f8")])
def test_a_mel_may_be_stored_otherwise(
    client: httpx.Client, mel: np.ndarray, expected: np.ndarray, layout: Any
) -> None:
    answer = client.post(DECODE, params={"response_format": "pcm"}, content=npy(layout(mel)))
    assert answer.headers["content-type"] == "audio/pcm" and answer.headers["x-sample-rate"] == "24000"
    require_same(np.frombuffer(answer.content, "<i2"), expected)


@pytest.mark.parametrize("stream", ["true", "false"])
def test_mp3_has_the_length_and_the_sound(
    client: httpx.Client, mel: np.ndarray, expected: np.ndarray, stream: str
) -> None:
    answer = client.post(DECODE, params={"response_format": "mp3", "stream": stream}, content=npy(mel))
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert (rate, answer.headers["content-type"]) == (24000, "audio/mpeg")
    # MP3 has frames of 576 samples at this rate, and a delay of at most three
    assert 0 <= len(samples) - len(expected) <= 3 * 576 or abs(len(samples) - len(expected)) <= 576
    made, given = (np.abs(np.fft.rfft(one.astype(float), 2**16)) for one in (samples, expected))
    assert np.corrcoef(made, given)[0, 1] > 0.98  # lossy, and its delay changes no magnitude


def test_what_was_taken_is_not_written_again() -> None:
    """An encoder may go back to its header at the end, which is too late for who has it already."""
    from tts_infer.server.encoders import _Tail

    file = _Tail()
    assert file.write(b"head") == 4 and file.taken() == b"head"
    file.write(b"body")
    assert file.seek(0) == 0 and file.write(b"HEADBO") == 6 and file.tell() == 6
    assert file.seek(0, 2) == 8 and file.write(b"end") == 3
    assert file.taken() == b"BOdyend" and file.taken() == b""


def test_a_streamed_file_without_a_length_is_read_by_others(
    mel: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    from tts_infer.server.encoders import encoder

    output, content = encoder("wav", 24000), b""
    for part in np.array_split(expected, 5):
        output.write(part)
        content += output.taken()
    output.finish()
    (tmp_path / "a.wav").write_bytes(content + output.taken())
    assert struct.unpack_from("<I", content, 4) == struct.unpack_from("<I", content, 40) == (2**32 - 1,)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], expected)
    np.testing.assert_array_equal(tts_infer.to_int16(tts_infer.read_audio(tmp_path / "a.wav").samples)[0], expected)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.readframes(10**9) == expected.tobytes()


def test_audio_comes_before_the_end(client: httpx.Client) -> None:
    """The first bytes of seven minutes are there while most of it is not decoded."""
    with client.stream("POST", DECODE, content=npy(LONG)) as answer:
        chunks = answer.iter_raw()  # the connection closes with it
        first = next(chunks)
        assert first.startswith(b"RIFF") and metric(client, "streams_active") == 1
        assert int(answer.headers["content-length"]) == 44 + 2 * 256 * (LONG.shape[1] - 1)
    until(lambda: metric(client, "streams_active") == 0, "the work went on")


def test_who_goes_away_frees_the_work(client: httpx.Client) -> None:
    gone, sent = metric(client, "gone_total"), metric(client, "audio_seconds_total")
    with client.stream("POST", DECODE, content=npy(LONG)) as answer:
        chunks = answer.iter_raw()
        next(chunks)
    until(lambda: metric(client, "gone_total") == gone + 1, "nobody noticed")
    until(lambda: metric(client, "streams_active") == 0, "the work went on")
    assert metric(client, "audio_seconds_total") == sent  # no whole answer


def test_who_does_not_read_loses_the_place(vocoder: tts_infer.Vocoder) -> None:
    with server(vocoder, stall_s=0.3) as client, client.stream("POST", DECODE, content=npy(LONG)) as answer:
        until(lambda: metric(client, "gone_total") == 1, "nobody noticed")
        assert metric(client, "streams_active") == 0
        with pytest.raises(httpx.RemoteProtocolError):  # an answer that ends early is never taken for whole
            answer.read()


def test_more_than_may_wait_are_told_to_come_again(vocoder: tts_infer.Vocoder, mel: np.ndarray) -> None:
    with server(vocoder, streams=1, queue=0) as client:
        with client.stream("POST", DECODE, content=npy(LONG)) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            refused = client.post(DECODE, content=npy(mel))
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == "server-busy"
            assert refused.json()["error"]["type"] == "rate_limit_error"
        until(lambda: client.post(DECODE, content=npy(mel)).status_code == 200, "the place was not freed")


def test_who_waits_comes_next_or_goes(vocoder: tts_infer.Vocoder, mel: np.ndarray) -> None:
    with server(vocoder, streams=1, queue=1) as client:
        with client.stream("POST", DECODE, content=npy(LONG)) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            with pytest.raises(httpx.ReadTimeout):
                client.post(DECODE, content=npy(mel), timeout=0.2)
            until(lambda: metric(client, "streams_waiting") == 0, "who went away still waits")
        assert client.post(DECODE, content=npy(mel)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "server-npy"),
        (b"this is no array", "server-npy"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", "server-npy"),
        (b"\x93NUMPY\x01\x00\x10\x00(" + 15 * b"(", "server-npy"),
        (npy(np.array([{}], object)), "server-npy-dtype"),
        (npy(np.zeros((100, 5), np.int64)), "server-npy-dtype"),
        (npy(np.zeros((100, 5), "f4,f4")), "server-npy-dtype"),
        (npy(np.zeros((100, 5), np.float32))[:-1], "server-npy-size"),
        (npy(np.zeros((100, 5), np.float32)).replace(b"(100, 5)", b"(9**99,)"), "server-npy"),
        (npy(np.zeros((100, 5), np.float32)).replace(b"(100, 5), }", b"(10**9,) }"), "server-npy"),
        (npy(np.zeros((100, 5), np.float32)).replace(b"(100, 5), }   ", b"(99999999999)}"), "server-npy"),
        (npy(np.zeros((100, 5), np.float32)).replace(b"(100, 5), }    ", b"(99999999999,)}"), "server-npy-size"),
        (npy(np.zeros((100, 5), np.float32)).replace(b"(100, 5), } ", b"(-100, -5),}"), "server-npy-size"),
        (npy(np.zeros((80, 5), np.float32)), "mel-bins"),
        (npy(np.zeros((100, 0), np.float32)), "mel-empty"),
        (npy(np.zeros((2, 100, 5), np.float32)), "live-batch"),
        (npy(np.full((100, 5), np.nan, np.float32)), "not-finite"),
        (npy(np.full((100, 1), -5, np.float32)), "too-short"),
    ],
)
def test_what_is_no_mel_is_refused(client: httpx.Client, body: bytes, code: str) -> None:
    answer = client.post(DECODE, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error" and "\n" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"model": "banana"}, 404, "server-model"),
        ({"response_format": "aac"}, 400, "config-type"),
        ({"stream": "perhaps"}, 400, "config-type"),
        ({"refine": "-1"}, 400, "server-refine"),
        ({"refine": "1000000"}, 400, "server-refine"),
        ({"refine": "1e3"}, 400, "config-type"),
        ({"voice": "heart"}, 400, "config-key-unknown"),
    ],
)
def test_a_wrong_query_is_refused(
    client: httpx.Client, mel: np.ndarray, query: dict[str, str], status: int, code: str
) -> None:
    answer = client.post(DECODE, params=query, content=npy(mel))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_refine_is_what_runs(
    client: httpx.Client, vocoder: tts_infer.Vocoder, mel: np.ndarray, expected: np.ndarray
) -> None:
    answer = client.post(DECODE, params={"response_format": "pcm", "refine": "4"}, content=npy(mel))
    samples = np.frombuffer(answer.content, "<i2")
    require_same(samples, tts_infer.to_int16(vocoder.decode(mel, refine=4)[0])[0])
    assert np.abs(samples.astype(int) - expected).max() > 100


def test_a_mel_of_another_convention_comes_with_a_warning(client: httpx.Client, mel: np.ndarray) -> None:
    other = mel / np.log(10)  # base 10
    answer = client.post(DECODE, content=npy(np.tile(other, 3)))
    assert answer.status_code == 200 and "log10" in answer.headers["x-tts-infer-warning"]
    assert "x-tts-infer-warning" not in client.post(DECODE, content=npy(np.tile(mel, 3))).headers


def test_large_requests_are_refused_before_and_while_they_arrive(vocoder: tts_infer.Vocoder) -> None:
    with server(vocoder, max_bytes=100_000) as client:
        for content in (bytes(3_000_000), iter([bytes(60_000)] * 3)):  # the second states no length
            answer = client.post(DECODE, content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "server-large")


def test_slow_requests_are_refused(vocoder: tts_infer.Vocoder) -> None:
    with server(vocoder, receive_s=0.2) as client:
        host = urlsplit(str(client.base_url))
        with socket.create_connection((str(host.hostname), host.port or 0), timeout=20) as connection:
            connection.sendall(f"POST {DECODE} HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Length: 9\r\n\r\nab".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_other_paths_and_methods(client: httpx.Client) -> None:
    nothing = client.get("/v1/audio/speeches")
    assert nothing.status_code == 404 and "/v1/audio/decode" in nothing.json()["error"]["message"]
    wrong = client.get(DECODE)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert client.get("/health").json() == {"status": "ok", "active": 0, "waiting": 0}


def test_the_key(vocoder: tts_infer.Vocoder, mel: np.ndarray) -> None:
    with server(vocoder, api_key="sésame") as client:
        for wrong in ({}, {"authorization": "Bearer sesame"}, {"authorization": "Basic sésame".encode()}):
            answer = client.post(DECODE, content=npy(mel), headers=wrong)  # type: ignore[arg-type]
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"]["type"] == "authentication_error"
        right = {"authorization": "Bearer sésame".encode()}
        assert client.post(DECODE, content=npy(mel), headers=right).status_code == 200  # type: ignore[arg-type]
        assert client.get("/metrics").status_code == 401 and client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("127.0.0.1:8000", 200),
        ("192.168.0.9", 200),
        ("[::1]:8000", 200),
        ("tts.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[evil", 403),
        ("", 403),
    ],
)
def test_names_of_others_are_refused(vocoder: tts_infer.Vocoder, host: str, status: int) -> None:
    with server(vocoder, hosts=("tts.example",)) as client:
        assert client.get("/health", headers={"host": host}).status_code == status


def test_web_pages_need_permission(vocoder: tts_infer.Vocoder, mel: np.ndarray) -> None:
    with server(vocoder, cors=("https://good.example",)) as client:
        own = str(client.base_url).rstrip("/")
        for origin, status in (("https://good.example", 200), (own, 200), ("https://evil.example", 403), ("null", 403)):
            answer = client.post(DECODE, content=npy(mel), headers={"origin": origin})
            assert answer.status_code == status, origin
            assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
            asked = {"origin": origin, "access-control-request-method": "POST"}
            before = client.options(DECODE, headers=asked)
            assert before.status_code == (204 if status == 200 else 403)
            assert ("access-control-allow-headers" in before.headers) == (status == 200)
    with server(vocoder, cors=("*",)) as client:
        assert client.get("/v1/models", headers={"origin": "https://any.example"}).status_code == 200


def test_the_key_is_needed_whatever_the_page(vocoder: tts_infer.Vocoder) -> None:
    with server(vocoder, cors=("*",), api_key="k") as client:
        page = {"origin": "https://any.example"}
        assert client.options(DECODE, headers=page).status_code == 204  # browsers ask without it
        assert client.post(DECODE, headers=page).status_code == 401
        assert client.options(DECODE).status_code == 401


def test_the_metrics_are_those_of_prometheus(client: httpx.Client, mel: np.ndarray) -> None:
    before = metric(client, "audio_seconds_total")
    assert client.post(DECODE, content=npy(mel)).status_code == 200
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert metric(client, "audio_seconds_total") == pytest.approx(before + (mel.shape[1] - 1) * 256 / 24000)
    kinds = {line.split()[2]: line.split()[3] for line in answer.text.splitlines() if line.startswith("# TYPE")}
    values: dict[str, float] = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in values
            values[name] = float(value)
            family = name.partition("{")[0]
            assert family in kinds or kinds[family.rsplit("_", 1)[0]] == "histogram"
    buckets = [value for name, value in values.items() if "_bucket" in name]
    assert buckets == sorted(buckets) and buckets[-1] == values["tts_infer_first_audio_seconds_count"] >= 1


def test_what_nobody_foresaw_tells_nothing(
    vocoder: tts_infer.Vocoder, mel: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"broken in {__file__}")

    monkeypatch.setattr("tts_infer.server.audio.decoded", fail)
    with server(vocoder) as client:
        answer = client.post(DECODE, content=npy(mel))
    assert answer.status_code == 500 and "broken in" in caplog.text
    assert answer.json()["error"] == {
        "message": "the server failed; its log says why",
        "type": "server_error",
        "param": None,
        "code": "server-failed",
    }


def test_an_error_after_the_first_audio_ends_the_connection(
    vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client must not take a part for the whole."""
    from tts_infer import live

    pushed = live._pushed

    def break_later(stream: Any, piece: Any, meter: live.Meter) -> live.Pcm:
        if meter.samples > 24000 * 20:
            raise tts_infer.InputError("the mel ends here")
        return pushed(stream, piece, meter)

    monkeypatch.setattr(live, "_pushed", break_later)
    with server(vocoder) as client:
        for kind in ("wav", "mp3"):  # with a length that was stated, and without
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(DECODE, params={"response_format": kind}, content=npy(LONG))


def test_folders_are_nobodys_business(tmp_path: Path) -> None:
    from tts_infer.server.catalogue import model_id
    from tts_infer.server.problems import problem

    assert (
        model_id(str(tmp_path)) == tmp_path.name and model_id("charactr/vocos-mel-24khz") == "charactr/vocos-mel-24khz"
    )
    missing = tts_infer.MissingPackageError(f"it is not in {tmp_path}")
    assert problem(missing)["error"]["code"] == "server-failed" and str(tmp_path) not in str(problem(missing))
    error = tts_infer.FileError("cannot read {path}: see https://a.example/b/c", code="x", path=tmp_path / "a b.npy")
    assert problem(error)["error"]["message"] == "cannot read a b.npy: see https://a.example/b/c"


def test_the_real_client_of_openai(vocoder: tts_infer.Vocoder) -> None:
    with server(vocoder, api_key="key") as client:
        url = str(client.base_url.join("/v1"))
        with openai.OpenAI(base_url=url, api_key="key", max_retries=0) as theirs:
            assert [model.id for model in theirs.models.list()] == [vocoder.name]
        wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError, match="the API key is missing or wrong"):
            wrong.models.list()


def test_settings_are_checked() -> None:
    with pytest.raises(tts_infer.ConfigError, match="streams is 0; it must be greater than 0"):
        ServerSettings(streams=0)


def test_json_of_errors_is_one_line_of_ascii(client: httpx.Client) -> None:
    answer = client.post(DECODE, params={"model": "模型\n"}, content=b"")
    assert answer.content.isascii() and b"\n" not in answer.content
    assert "模型" in json.loads(answer.content)["error"]["message"]
