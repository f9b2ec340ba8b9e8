"""Change the address of the repository everywhere: `python docs/address.py https://git.example/indifast`.

The address is `Repository` in `[project.urls]` of `pyproject.toml`. The README and other pages that are read outside
the repository contain it in their links. `tests/documentation/test_address.py` finds any other address.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def texts() -> dict[Path, str]:
    """Return the contents of all text files in the repository."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = {}
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"\0" not in data:
                found[path] = data.decode(errors="surrogateescape")
    return found


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1].startswith("https://"):
        print(__doc__, file=sys.stderr)
        return 2
    for path, text in texts().items():
        if ADDRESS in text and path != Path(__file__):
            path.write_bytes(text.replace(ADDRESS, sys.argv[1].rstrip("/")).encode(errors="surrogateescape"))
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
