"""Writes ``requirements.txt``: what the image installs, with the hashes of the files that pip would take.

For each version of Python, on 64-bit Linux as in the image:
    pip install --dry-run --ignore-installed --report REPORT.json -c constraints.txt .
then: python launch/pin_image.py REPORT.json …
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent
PATH, BUILD_PATH = _HERE / "requirements.txt", _HERE / "requirements-build.txt"
# What the packages without a wheel, and this one, are built with.
_BUILDS = "setuptools"
_HEAD = "# Written by pin_image.py from constraints.txt; use: pip install --require-hashes -r {name}\n"


def pinned(constraints: str, reports: Sequence[str]) -> dict[str, list[str]]:
    """Returns the lines of ``constraints.txt`` that pip would install, with the hashes of their files."""
    lines = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    by_pin = {_key(line.split(" ; ")[0]): line for line in lines}
    found: dict[str, set[str]] = defaultdict(set)
    for item in (item for report in reports for item in json.loads(report)["install"]):
        if "dir_info" not in item["download_info"]:  # this package itself
            pin = _key(f"{item['metadata']['name']}=={item['metadata']['version']}")
            found[by_pin[pin]].add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    return {line: sorted(found[line]) for line in sorted(found)}


def _key(pin: str) -> str:
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() + "==" + pin.partition("==")[2]


def text(pins: dict[str, list[str]], name: str) -> str:
    """Returns the content of a file for ``pip install --require-hashes``."""
    blocks = [" \\\n    ".join([line, *(f"--hash=sha256:{one}" for one in pins[line])]) for line in pins]
    return _HEAD.format(name=name) + "".join(f"{block}\n" for block in blocks)


def main() -> None:
    """Writes both files next to this script."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="as pip writes them")
    flags = parser.parse_args()
    constraints = (_HERE.parent / "constraints.txt").read_text(encoding="utf-8")
    pins = pinned(constraints, [path.read_text(encoding="utf-8") for path in flags.reports])
    builds = {line: hashes for line, hashes in pins.items() if line.startswith(f"{_BUILDS}==")}
    PATH.write_text(text(pins, PATH.name), encoding="utf-8")
    BUILD_PATH.write_text(text(builds, BUILD_PATH.name), encoding="utf-8")


if __name__ == "__main__":
    main()
