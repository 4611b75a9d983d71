"""`python -m tts_infer`, and the installed `tts-infer`."""

import signal
import sys

from tts_infer.cli import main as run


def main() -> int:
    """Run the command line. When the system ends it, it cleans up as after Ctrl-C."""
    for name in ("SIGTERM", "SIGHUP"):  # SIGHUP: the terminal is closed; with nohup it is ignored
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda signalled, _: sys.exit(128 + signalled))
    return run()


if __name__ == "__main__":
    sys.exit(main())
