"""Audio over HTTP: the endpoints of OpenAI's API that make speech, and one that decodes mels."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Sequence

from tts_infer.arguments import checked
from tts_infer.errors import InputError, require_package
from tts_infer.server.application import ServerApp
from tts_infer.server.settings import ServerSettings
from tts_infer.speaker import Speaker
from tts_infer.vocoder import Vocoder
from tts_infer.warm import warm_up

_GRACE_S = 5  # for answers that are being sent when the server is asked to end


@checked()
def serve(
    vocoders: Sequence[Vocoder],
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: ServerSettings = ServerSettings(),  # noqa: B008  frozen
    speakers: Sequence[Speaker] = (),
    ready: Callable[[str], None] = print,
) -> None:
    """Answer requests until the process is interrupted or asked to end. Only for the main thread.

    Args:
        vocoders, speakers: what it decodes and speaks with, see `Catalogue`.
        host, port: where it listens; port 0 is any free one.
        settings: limits and rights.
        ready: is told the address once the server listens.

    Raises:
        MissingPackageError: uvicorn is not installed.
        InputError: it cannot listen there.
    """
    uvicorn = require_package("uvicorn", "server")
    with _listening(host, port) as listener:
        behind_voices = (speaker.vocoder for speaker in speakers if speaker.vocoder is not None)
        for vocoder in dict.fromkeys([*vocoders, *behind_voices]):
            warm_up(vocoder)
        config = uvicorn.Config(
            ServerApp(vocoders, settings, speakers),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
        )
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again when it has ended
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            logging.getLogger("tts_infer.server").info("interrupted")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        text = "cannot listen on {host}, port {port}: {reason}; give another host or port"
        raise InputError(text, code="server-listen", host=host, port=port, reason=reason) from None
