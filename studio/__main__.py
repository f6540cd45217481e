"""`python -m studio`."""

from studio.cli.__main__ import main

if __name__ == "__main__":
    main()
