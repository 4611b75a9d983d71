"""`python -m tts_infer`, and the installed `tts-infer`."""

import signal
import sys


def main() -> int:
    """Run the command line; asked to end, by Ctrl-C or by the system, it leaves nothing half written."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        from tts_infer.cli import main as run

        return run()
    except KeyboardInterrupt:  # while modules were imported
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
