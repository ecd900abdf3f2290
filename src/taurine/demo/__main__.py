"""The program `python -m taurine.demo`, which is `taurine demo` too."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from taurine.demo.command import main

        sys.exit(main())
    except KeyboardInterrupt:  # before the command hears signals itself
        sys.exit(130)
