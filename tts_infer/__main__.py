"""`python -m tts_infer`."""

import sys

from tts_infer.cli import main

sys.exit(main())
