"""What a server allows, and whom."""

from __future__ import annotations

from dataclasses import dataclass

from tts_infer.arguments import require_fields
from tts_infer.config import require_positive

LOCAL_NAMES = ("localhost",)  # addresses written as numbers are always allowed, see `guard`


@dataclass(frozen=True)
class ServerSettings:
    """Limits and rights of a server.

    Attributes:
        api_key: what `Authorization: Bearer` must state; None: nothing.
        cors: origins of web pages that may use it, such as "https://example.org"; "*" is every page.
        hosts: names, besides "localhost", by which it may be called; "*" is every name. Their web pages may use it.
        streams: answers that are computed at once.
        queue: further requests that wait; more are refused with 429.
        max_bytes: of a request.
        max_characters: of a text.
        receive_s: seconds in which a request must have arrived.
        stall_s: seconds without progress after which a reader counts as gone.

    Raises:
        InputTypeError: a value of another kind.
        ConfigError: a limit that is not greater than 0.
    """

    api_key: str | None = None
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    streams: int = 16
    queue: int = 64
    max_bytes: int = 64_000_000
    max_characters: int = 4096
    receive_s: float = 30.0
    stall_s: float = 60.0

    def __post_init__(self) -> None:
        require_fields(self)
        require_positive(self, "streams", "max_bytes", "max_characters", "receive_s", "stall_s")
