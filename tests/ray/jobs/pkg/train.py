"""A module run with -m, which imports relative to its package."""

import sys

from .names import NAME

if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        file.write(f"{NAME} {__name__} {__package__}")
