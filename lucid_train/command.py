"""Command: what somebody asks of a run while it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from attrs import field, frozen

from lucid_train.validation import choice

Name = Literal["save", "stop", "evaluate", "set"]

_WORDS = "save, stop, evaluate or set NAME=VALUE"
# No number is named in more.
_LONGEST_KEY = 200


@frozen
class Command:
    """What somebody asks of a run while it trains; see `Run.command`.

    Args:
        name: "save" writes a checkpoint. "stop" ends the fit after the current step, as a callback may; it can be
            resumed. "evaluate" evaluates now, which changes nothing in the training. "set" goes on with another rate,
            or another number that a schedule sets.
        key: What is set: "lr", or the key of a schedule; "" for other commands.
        value: What to, finite; 0 for other commands.
        by: Who asks, for the log.
        id: What tells its answer from those to others; "" if nobody waits for it.
        refusal: Why it is answered and not carried out; None if it is carried out.

    Raises:
        ValueError: If these do not fit together.
    """

    name: Name = field(validator=choice("save", "stop", "evaluate", "set"))
    key: str = ""
    value: float = 0.0
    by: str = field(default="", kw_only=True)
    id: str = field(default="", kw_only=True)
    refusal: str | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if (self.name == "set") != bool(self.key) or len(self.key) > _LONGEST_KEY:
            raise ValueError(f"'key' must name what is set, and be given with 'set' alone: {self.key!r:.80}")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.key!r} must be set to a finite number: {self.value!r}")
        if self.key == "lr" and self.value <= 0:
            raise ValueError(f"'lr' must be set to a number > 0, as no schedule can be scaled from 0: {self.value!r}")

    @classmethod
    def read(cls, words: Sequence[str], *, by: str = "", id: str = "") -> Command:
        """Return the command that somebody has written, such as ["set", "lr=1e-4"].

        Raises:
            ValueError: If it is none.
        """
        match [*words]:
            case ["save" | "stop" | "evaluate" as name]:
                return cls(name, by=by, id=id)
            case ["set", str(text)] if "=" in text:
                key, _, number = text.partition("=")
                try:
                    value = float(number)
                except ValueError:
                    raise ValueError(f"{key!r} must be set to a number, as in set lr=1e-4: {number!r:.80}") from None
                return cls("set", key, value, by=by, id=id)
        raise ValueError(f"'command' must be {_WORDS}: {' '.join(words)!r:.80}")

    def __str__(self) -> str:
        return f"set {self.key}={self.value!r}" if self.name == "set" else self.name
