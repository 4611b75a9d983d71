"""What a server has done so far, in the text form that Prometheus reads."""

from __future__ import annotations

from collections import Counter

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts since the server began.

    Attributes:
        requests: by path and status.
        gone: clients that went away before their answer was whole.
        audio_s: seconds of audio that were sent.
        clipped_samples: of that audio, to full scale.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.gone = self.clipped_samples = 0
        self.audio_s = 0.0
        self._first_audio: Counter[float] = Counter()  # by the bucket in which it falls
        self._first_audio_s = 0.0

    def first_audio(self, seconds: float) -> None:
        """Count the time from a whole request to its first audio."""
        self._first_audio_s += seconds
        self._first_audio[next((most for most in BUCKETS_S if seconds <= most), float("inf"))] += 1

    def text(self, active: int, waiting: int) -> str:
        """Everything, as text.

        Args:
            active, waiting: answers that are computed now, and requests that wait.

        Source: Prometheus, Text-based exposition format 0.0.4.
        """
        lines = [_head("requests_total", "counter", "Answers that were begun, by path and status.")]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'tts_infer_requests_total{{path="{path}",status="{status}"}} {count}')
        for name, kind, about, value in (
            ("gone_total", "counter", "Clients that went away before their answer was whole.", self.gone),
            ("audio_seconds_total", "counter", "Seconds of audio that were sent.", self.audio_s),
            ("clipped_samples_total", "counter", "Samples that were clipped to full scale.", self.clipped_samples),
            ("streams_active", "gauge", "Answers that are computed now.", active),
            ("streams_waiting", "gauge", "Requests that wait now.", waiting),
        ):
            lines += [_head(name, kind, about), f"tts_infer_{name} {value}"]
        about = "Time from a whole request to its first audio."
        lines += [_head("first_audio_seconds", "histogram", about), *self._buckets()]
        return "\n".join(lines) + "\n"

    def _buckets(self) -> list[str]:
        lines, total = [], 0
        for most in (*BUCKETS_S, float("inf")):
            total += self._first_audio[most]
            label = "+Inf" if most == float("inf") else f"{most:g}"
            lines.append(f'tts_infer_first_audio_seconds_bucket{{le="{label}"}} {total}')
        sums = f"tts_infer_first_audio_seconds_sum {self._first_audio_s}"
        return [*lines, sums, f"tts_infer_first_audio_seconds_count {total}"]


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP tts_infer_{name} {about}\n# TYPE tts_infer_{name} {kind}"
