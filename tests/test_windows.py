"""What the product would need of Windows, read from its source: it has not been run there, see docs/dependencies.md.

Names that only POSIX has may be used where their absence is handled; GUARDED lists these places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULES = {
    "fcntl",
    "resource",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "posix",
    "posixpath",
    "syslog",
    "crypt",
    "readline",
}
OS = (
    *(
        "fork",
        "forkpty",
        "register_at_fork",
        "waitid",
        "wait",
        "wait3",
        "wait4",
        "WNOHANG",
        "posix_spawn",
        "posix_spawnp",
    ),
    *(
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "setuid",
        "setgid",
        "getgroups",
        "setsid",
        "getpgid",
        "setpgid",
        "killpg",
    ),
    *("mkfifo", "mknod", "chown", "lchown", "fchown", "fchmod", "chroot", "statvfs", "fstatvfs", "sync", "fdatasync"),
    *(
        "nice",
        "getpriority",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_yield",
        "getloadavg",
        "sysconf",
        "confstr",
    ),
    *("pread", "pwrite", "readv", "writev", "preadv", "pwritev", "sendfile", "splice", "pipe2", "openpty", "ttyname"),
    *("O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW", "O_SYNC", "set_blocking", "get_blocking", "uname"),
    *(
        "memfd_create",
        "eventfd",
        "getxattr",
        "setxattr",
        "listxattr",
        "posix_fadvise",
        "posix_fallocate",
        "lockf",
        "ctermid",
    ),
)
SIGNALS = (
    *(
        "SIGHUP",
        "SIGKILL",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGCHLD",
        "SIGPIPE",
        "SIGSTOP",
        "SIGCONT",
        "SIGTSTP",
    ),
    *(
        "SIGWINCH",
        "alarm",
        "setitimer",
        "pause",
        "sigwait",
        "pthread_sigmask",
        "pthread_kill",
        "siginterrupt",
        "sigpending",
    ),
)
POSIX = {
    "os": set(OS),
    "signal": set(SIGNALS),
    "socket": {"AF_UNIX", "socketpair", "SO_REUSEPORT"},
    "select": {"poll", "epoll", "kqueue"},
    "time": {"tzset", "clock_gettime", "pthread_getcpuclockid"},
    "asyncio": {"open_unix_connection", "start_unix_server"},
}
FOLDERS = re.compile(r"/(proc|dev|sys|tmp|etc|usr|var|home|root)(/\S*)?")  # a whole text: not a part of a sentence

# Where a name is used, and what handles its absence.
GUARDED = {
    ("tts_infer/runtime/workers.py", "os.register_at_fork"): "hasattr(os",
    ("tts_infer/runtime/workers.py", "os.sysconf"): "suppress(OSError",  # after /proc/stat was read
    ("tts_infer/runtime/workers.py", "/proc/stat"): "suppress(OSError",
    ("tts_infer/runtime/kept.py", "/proc/cpuinfo"): "suppress(OSError",
    ("tts_infer/runtime/memory.py", "/proc/self"): "NO_PEAK",  # said where it cannot be opened
    ("tts_infer/io/inputs.py", "os.set_blocking"): 'hasattr(os, "set_blocking")',
    ("tts_infer/io/targets.py", "os.set_blocking"): 'hasattr(os, "set_blocking")',
}
FILES = [ROOT / "app.py", *sorted((ROOT / "ui").rglob("*.py")), *sorted((ROOT / "tts_infer").rglob("*.py"))]
FILES += sorted((ROOT / "integrations").rglob("*.py"))


def posix_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from [module] * (module in MODULES)
            yield from (f"{module}.{alias.name}" for alias in node.names if alias.name in POSIX.get(module, ()))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from [f"{node.value.id}.{node.attr}"] * (node.attr in POSIX.get(node.value.id, ()))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and FOLDERS.fullmatch(node.value):
            yield node.value


def text_files(tree: ast.AST) -> Iterator[str]:
    """Calls that read or write text in the encoding of the system: cp1252 on Windows."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
        modes += [k.value.value for k in node.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
        plain = isinstance(node.func, ast.Name) and name == "open" and not any("b" in str(mode) for mode in modes)
        method = name == "write_text" or (name == "read_text" and not node.args)  # with one, it is that of `io.text`
        if (plain or method) and "encoding" not in given:
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_windows_lacks_is_guarded(path: Path) -> None:
    name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for used in set(posix_names(tree)):
        assert (name, used) in GUARDED, f"{used} is missing on Windows"
    assert not [call for call in text_files(tree) if "_read_text" not in call]


@pytest.mark.parametrize(("name", "used"), GUARDED, ids=" ".join)
def test_guards_are_there(name: str, used: str) -> None:
    """The nearest guard stands in the lines around the use, and the list holds no place that is gone."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    (place, *_) = [i for i, line in enumerate(lines) if used in line and "hasattr" not in line]
    assert any(GUARDED[name, used] in line for line in lines[max(0, place - 4) : place + 2])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from os import fork", ["os.fork"]),
        ("os.O_NONBLOCK", ["os.O_NONBLOCK"]),
        ("signal.signal(signal.SIGHUP, f)", ["signal.SIGHUP"]),
        ("open('/proc/stat', encoding='ascii')", ["/proc/stat"]),
        ("'audio of /dev/stdin'", []),
        ("signal.SIGTERM", []),
    ],
)
def test_the_search_finds(source: str, found: list[str]) -> None:
    assert list(posix_names(ast.parse(source))) == found


def test_the_search_finds_encodings() -> None:
    source = "open(p); open(p, 'rb'); path.read_text(); path.write_text(t, encoding='utf-8'); file.open()"
    assert [call.split(": ")[1] for call in text_files(ast.parse(source))] == ["open(p)", "path.read_text()"]
