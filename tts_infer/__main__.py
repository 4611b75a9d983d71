"""`python -m tts_infer`, and the installed `tts-infer`."""

import signal
import sys

from tts_infer.cli.main import main as run


def main() -> int:
    """Run the command line; ended by the system, it leaves as little half written as when it is ended by Ctrl-C."""
    for name in ("SIGTERM", "SIGHUP"):  # the second when its terminal is closed, unless someone said nohup
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda signalled, _: sys.exit(128 + signalled))
    return run()


if __name__ == "__main__":
    sys.exit(main())
