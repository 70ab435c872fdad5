"""Counts the lines of each room of the package, and fails where one has more than pyproject.toml allows.

A room that needs more says why in the commit that raises its budget.
"""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "keras_ecg_mae"


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def main() -> int:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["budgets"]
    rooms = {path.name: sorted(path.rglob("*.py")) for path in PACKAGE.iterdir() if any(path.rglob("*.py"))}
    rooms["top"] = sorted(PACKAGE.glob("*.py"))
    wrong = []
    for room, files in sorted(rooms.items()):
        count, budget = sum(map(lines, files)), settings["rooms"].get(room, 0)
        print(f"{room:12} {count:6,} of {budget:6,} lines, {len(files):3} files")
        if count > budget:
            wrong.append(f"{room} has {count:,} lines, over its budget of {budget:,}")
    files = [path for found in rooms.values() for path in found]
    print(f"{'in all':12} {sum(map(lines, files)):6,} lines, {len(files):13} files")
    wrong += [
        f"{path.relative_to(REPOSITORY)} has {lines(path)} lines, over {settings['file']}"
        for path in files
        if lines(path) > settings["file"] and path.name not in settings["long_files"]
    ]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
