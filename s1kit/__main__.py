"""`python -m s1kit` is the command s1kit."""

import sys

from s1kit.cli import main

sys.exit(main())
