"""``python -m nkinetics`` is the command ``nkinetics``."""

from nkinetics.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
