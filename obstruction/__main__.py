"""Run the command ``obstruction`` as ``python -m obstruction``."""

from obstruction.cli import main

if __name__ == "__main__":
    main()
