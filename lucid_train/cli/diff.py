"""`lucid-train diff`: two recorded runs, and where they part."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lucid_train.callbacks.display.formatting import clean
from lucid_train.recording.comparison import Comparison, Pair, compare_logs
from lucid_train.recording.values import pack_value

_WIDTH, _LONGEST = 80, 2_000


def add_command(commands: Any) -> None:
    """Add `diff` to what argparse's `add_subparsers` returned."""
    summary = "say where two recorded runs part, and what differs there first"
    parser = commands.add_parser(
        "diff",
        help=summary,
        description=f"{summary.capitalize()}. Digests of steps tell most: EventLog(path, digests=n).",
        epilog="The exit code is 0 if the runs agree in all that both logs have, 1 if they differ, and 2 if one cannot "
        "be read.",
    )
    parser.add_argument("one", type=Path, help="file that EventLog wrote")
    parser.add_argument("other", type=Path, help="file to compare it with")
    parser.add_argument("--json", action="store_true", help="print one object of JSON (default: sentences)")
    parser.set_defaults(command=_diff)


def _diff(arguments: argparse.Namespace) -> int:
    found = compare_logs(arguments.one, arguments.other)
    if arguments.json:
        print(json.dumps(_packed(found), allow_nan=False))
    else:
        for line in _lines(found, arguments.one, arguments.other):
            print(clean(line, sys.stdout.encoding))
    return 0 if found.agrees else 1


def _packed(found: Comparison) -> dict[str, Any]:
    return {
        "agrees": found.agrees,
        "setup": list(found.setup),
        "versions": list(found.versions),
        "compared": found.compared,
        "first": None if found.first is None else _packed_pair(found.first),
        "around": [_packed_pair(pair) for pair in found.pairs],
        "ends": [None if end is None else str(end) for end in found.ends],
    }


def _packed_pair(pair: Pair) -> dict[str, Any]:
    differing = {name: list(map(_packed_fact, both)) for name, both in pair.differing.items()}
    return {"place": str(pair), "step": pair.one.step, "epoch": pair.one.epoch, "differing": differing}


def _packed_fact(value: Any) -> Any:
    return pack_value(list(value) if isinstance(value, tuple) else value)


def _lines(found: Comparison, one: Path, other: Path) -> Iterator[str]:
    for title, sentences in (("set-up", found.setup), ("versions", found.versions)):
        if sentences:
            yield f"The {title} differ{'s' * (title == 'set-up')}:"
            for sentence in sentences:
                yield from _wrapped(sentence, "  ", "    ")
    moments = f"{found.compared:,} moment{'s' * (found.compared != 1)}"
    if not found.compared:
        yield "No step and no epoch is in both logs."
    elif found.first is None:
        last = found.pairs[-1]
        yield from _wrapped(f"Nothing differs in {moments} that both logs have, the last of them {last}.")
    else:
        names = list(found.first.differing)
        yield from _wrapped(f"The first difference is at {found.first}: {', '.join(names)}.")
        for name, (mine, its) in found.first.differing.items():
            yield from _wrapped(f"{name}: {_fact(mine)} and {_fact(its)}", "  ", "    ")
        if len(found.pairs) > 1:
            yield "Around it:"
            yield from _around(found.pairs, found.first)
    for path, end, beyond in ((one, *found.ends), (other, *found.ends[::-1])):
        if end is not None and beyond is not None and end.step < beyond.step and found.compared and found.first is None:
            yield from _wrapped(f"'{path}' ends at {end}, and the other goes on to {beyond}.")


def _around(pairs: Sequence[Pair], first: Pair) -> Iterator[str]:
    width = max(len(str(pair)) for pair in pairs)
    for pair in pairs:
        mark, differing = "> " if pair is first else "  ", pair.differing
        alike = [name for name in pair.names if name not in differing and name != "epoch"]
        kinds = {"differ": list(differing), "the same": alike}
        text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
        yield from _wrapped(text, f"{mark}{pair!s:<{width}}  ", " " * (width + 4))


def _fact(value: Any) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    # The time that wrapping takes grows with the square of the longest word.
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
