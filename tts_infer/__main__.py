"""`python -m tts_infer`, and the installed `tts-infer`."""

import signal
import sys

from tts_infer.cli import main as run


def main() -> int:
    """Run the command line; ended by the system, it leaves as little half written as when it is ended by Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run()


if __name__ == "__main__":
    sys.exit(main())
