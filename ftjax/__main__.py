"""`python -m ftjax` is `python -m ftjax.main`."""

import sys

from ftjax.main import main

sys.exit(main())
