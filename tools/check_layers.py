#!/usr/bin/env python3
"""Checks every #include "braid/ROOM/..." in the tree against layers.txt.

Below src/braid/ROOM a file may include its own room and the rooms on its line. Below apps, tests and bench any
room may be included. Prints FILE:LINE and the rule for each include that breaks it, and exits with 1.

  check_layers.py [ROOT]       ROOT: the repository, by default the one that holds this script
  check_layers.py --self-test
"""

import pathlib
import re
import sys
import tempfile

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]braid/([^">]*)[">]')
SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh", ".inc"}


class LayerError(Exception):
    pass


def read_layers(path):
    """{room: rooms it may include} from lines "room: room room"."""
    layers = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        room, colon, allowed = line.partition(":")
        if not colon or room in layers:
            raise LayerError(f'{path.name}:{number}: expected one "room: rooms it may include" per room')
        layers[room] = allowed.split()
    for room, allowed in layers.items():
        for other in allowed:
            if other not in layers:
                raise LayerError(f"{path.name}: {room} may include {other}, which has no line of its own")
    require_no_cycle(path, layers)
    return layers


def require_no_cycle(path, layers):
    done = set()

    def visit(room, above):
        if room in above:
            raise LayerError(f"{path.name}: {' -> '.join(above[above.index(room):] + [room])} is a cycle")
        if room not in done:
            for other in layers[room]:
                visit(other, above + [room])
            done.add(room)

    for room in layers:
        visit(room, [])


def includes(path):
    """(line number, path below braid/) of each include of ours."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1)


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file())


def problems_of_room(root, room, layers):
    if room not in layers:
        yield f"src/braid/{room}: the room has no line in layers.txt"
        return
    allowed = layers[room]
    for path in sources(root / "src" / "braid" / room):
        for number, target in includes(path):
            other = target.split("/")[0]
            where = f"{path.relative_to(root)}:{number}: {room} includes braid/{target}"
            if "/" not in target or other not in layers:
                yield f"{where}, but layers.txt has no room {other}"
            elif other == "backends" and room != "backends":
                yield f"{where}, but only apps, tests and bench may include backends"
            elif other != room and other not in allowed:
                yield f'{where}, but layers.txt says "{room}: {" ".join(allowed)}"'


def problems(root):
    layers = read_layers(root / "layers.txt")
    library = root / "src" / "braid"
    for entry in sorted(library.iterdir()):
        if entry.is_dir():
            yield from problems_of_room(root, entry.name, layers)
        elif entry.suffix in SUFFIXES:
            yield f"{entry.relative_to(root)}: files belong in a room"
    for top in ("apps", "tests", "bench"):
        for path in sources(root / top):
            for number, target in includes(path):
                if target.split("/")[0] not in layers:
                    yield f"{path.relative_to(root)}:{number}: layers.txt has no room for braid/{target}"


def self_test():
    good = {
        "layers.txt": "# comment\ncore:\nops: core\nbackends: ops core\nnn: ops core\n",
        "src/braid/core/a.h": "#include <vector>\n",
        "src/braid/ops/b.h": '#include "braid/core/a.h"\n#include "braid/ops/c.h"\n',
        "src/braid/backends/cpu/d.cpp": '#include "braid/backends/cpu/d.h"\n#include "braid/ops/b.h"\n',
        "apps/main.cpp": '#include "braid/backends/backends.h"\n',
        "tests/nn/x_test.cpp": '#include "braid/nn/x.h"\n#include "braid/backends/backends.h"\n',
    }
    # Each: one more file, and what the only problem must say.
    bad = [
        ("src/braid/core/up.h", '\n#include "braid/ops/b.h"\n', 'src/braid/core/up.h:2: core includes braid/ops/b.h, but layers.txt says "core: "'),
        ("src/braid/ops/side.cpp", '#  include "braid/nn/x.h"\n', "src/braid/ops/side.cpp:1: ops includes braid/nn/x.h"),
        ("src/braid/nn/x.cpp", '#include <braid/backends/backends.h>\n', "only apps, tests and bench may include backends"),
        ("src/braid/core/deep/y.cu", '#include "braid/ops/b.h"\n', "src/braid/core/deep/y.cu:1"),
        ("src/braid/ops/z.h", '#include "braid/attic/z.h"\n', "no room attic"),
        ("src/braid/attic/z.h", "", "the room has no line"),
        ("src/braid/loose.h", "", "files belong in a room"),
        ("bench/b.cpp", '#include "braid/attic/z.h"\n', "bench/b.cpp:1"),
        ("layers.txt", "core: ops\nops: core\nbackends: ops\nnn: ops\n", "is a cycle"),
        ("layers.txt", "core: cellar\n", "no line of its own"),
        ("layers.txt", "core\n", "layers.txt:1"),
    ]

    def found(files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            try:
                return list(problems(root))
            except LayerError as error:
                return [str(error)]

    failures = []
    if found(good):
        failures.append(f"good tree: {found(good)}")
    for name, text, want in bad:
        got = found({**good, name: text})
        if len(got) != 1 or want not in got[0]:
            failures.append(f"{name}: wanted one problem with '{want}', got {got}")
    for failure in failures:
        print(failure)
    print(f"self-test: {len(bad) + 1 - len(failures)} of {len(bad) + 1} passed")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__)
        return 2
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).resolve().parent.parent
    try:
        found = list(problems(root))
    except (LayerError, OSError) as error:
        found = [str(error)]
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
