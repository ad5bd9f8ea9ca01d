"""Prints what corten needs at run time and for development, one requirement a line, read from pyproject.toml."""

import tomllib
from pathlib import Path


def main() -> None:
    """Print the dependencies and those of the extra `dev`."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join([*project["dependencies"], *project["optional-dependencies"]["dev"]]))


if __name__ == "__main__":
    main()
