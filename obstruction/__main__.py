"""``python -m obstruction`` is the command ``obstruction``."""

from obstruction.cli import main

if __name__ == "__main__":
    main()
