"""`python -m xai_panel` is `xai-panel`."""

import sys

from xai_panel.cli import main

sys.exit(main())
