"""Prints what an image was made from as JSON.

usage: manifest.py PACKAGES KEY=VALUE...

PACKAGES has a name and a version on each line.
"""

import json
import sys
from pathlib import Path


def main(packages: Path, fields: list[str]) -> None:
    manifest: dict[str, object] = {"version": 1, **dict(field.split("=", 1) for field in fields)}
    manifest["packages"] = dict(line.split(" ", 1) for line in packages.read_text().splitlines())
    print(json.dumps(manifest, indent=1, sort_keys=True))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
