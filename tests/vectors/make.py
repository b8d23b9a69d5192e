"""Writes the golden vectors: ``./dev run tests/vectors/make.py``, or with ``--check`` compares them.

Each module ``vectors_*.py`` beside this one has ``build() -> dict[file name, value]`` from fixed randomness.
The files are for every language: bytes are hexadecimal, integers are JSON numbers below 2**53. A changed file
means that a format changed, which needs a new version of that format.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
Build = Callable[[], Mapping[str, object]]


def builders() -> list[Build]:
    """Load ``build`` of every ``vectors_*.py``, in order of the names."""
    found: list[Build] = []
    for path in sorted(HERE.glob("vectors_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(path.name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module.build)
    return found


def rendered() -> dict[str, str]:
    """Return the text of every vector file by its name."""
    return {
        name: json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        for build in builders()
        for name, value in build().items()
    }


def outdated(files: Mapping[str, str]) -> list[str]:
    """Return the names whose file on the disk is missing or differs."""
    return [
        name
        for name, text in files.items()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the files, or compare them; 1 if a comparison fails."""
    parser = argparse.ArgumentParser(description="Write the golden vectors.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    check = parser.parse_args(arguments).check
    files = rendered()
    changed = outdated(files)
    for name in changed:
        if not check:
            (HERE / name).write_text(files[name], encoding="utf-8")
        sys.stdout.write(f"{'differs' if check else 'written'}: {name}\n")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))  # for tests/support, as pytest has it
    sys.exit(main(sys.argv[1:]))
