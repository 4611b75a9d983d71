"""Errors as the clients of OpenAI's API read them: a status, and JSON with our sentence and our code."""

from __future__ import annotations

import re
from typing import Any

from tts_infer.errors import MissingPackageError, TTSInferError

# By code. Every other mistake of the caller is 400.
_STATUS = {
    "server-key": 401,
    "server-login": 401,
    "server-host": 403,
    "server-origin": 403,
    "server-path": 404,
    "server-model": 404,
    "server-voice": 404,
    "server-no-voice": 404,
    "server-method": 405,
    "server-slow": 408,
    "server-length": 411,
    "server-large": 413,
    "server-content-type": 415,
    "server-busy": 429,
    "server-calls": 429,
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
UNFORESEEN = "the server failed; its log says why"
# Folders before a name. Addresses of the web keep theirs.
_FOLDERS = re.compile(r"(?<![\w:/])(?:[A-Za-z]:)?(?:[/\\][^/\\\s'\":;,()]+)*[/\\](?=[^/\\\s])")


def status_of(error: Exception) -> int:
    """The HTTP status that an error stands for."""
    if isinstance(error, MissingPackageError) or not isinstance(error, TTSInferError):
        return 500
    return _STATUS.get(error.code, 400)


def problem(error: Exception) -> dict[str, Any]:
    """The body of an answer about an error. The folders of this machine, and what nobody foresaw, are not in it."""
    status = status_of(error)
    told: dict[str, Any] = {"message": UNFORESEEN, "type": "server_error", "param": None, "code": "server-failed"}
    if isinstance(error, TTSInferError) and status < 500:
        # the server's own sentences name no folders, but the paths of its endpoints
        told["message"] = str(error) if error.code.startswith("server-") else _FOLDERS.sub("", str(error))
        told["type"] = _TYPES.get(status, "invalid_request_error")
        told["param"], told["code"] = error.fields.get("param"), error.code
    return {"error": told}
