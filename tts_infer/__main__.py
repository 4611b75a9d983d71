"""`python -m tts_infer`."""

import sys

try:
    from tts_infer.cli import main

    code = main()
except KeyboardInterrupt:  # while modules were imported
    code = 130
sys.exit(code)
