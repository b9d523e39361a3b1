"""What is frozen: a table of results by name, each computed through the public names alone when it is called."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from lucid_train import schedules

from .frozen import read
from .setups import (
    BETAS,
    FAR,
    LENGTHS,
    METRIC,
    NEARER,
    PLATEAUS,
    PREFERRED,
    RECIPES,
    REFUSED,
    SCHEDULES,
    TORCH,
    TORCH_EPOCHS,
    Build,
    Optimizer,
    lr_scheduler,
    power,
)
from .trace import TRACES

STEPS = 60
STATES_AFTER = (0, 7, 29)
AFTER_LOADING = 4
AFTER_TORCH = 20


def rates_at(scheduler: Any, t: int) -> list[float]:
    """Return the rates of one time, as a pure function."""
    rates: list[float] = scheduler.lr_at(t)
    return rates


def held(optimizer: Any) -> tuple[list[float], list[float]]:
    """Return the rates and the momenta, or first betas, that stand in the optimizer."""
    groups = optimizer.param_groups
    momenta = []
    for group in groups:
        momenta.append(group["betas"][0] if "betas" in group else group["momentum"])
        assert group.get("betas", BETAS)[1:] == BETAS[1:]
    return [group["lr"] for group in groups], momenta


def advance(optimizer: Any, scheduler: Any) -> None:
    optimizer.step()
    plateau = type(scheduler).__name__ == "ReduceLROnPlateau"
    scheduler.step(*([METRIC[scheduler.last_epoch]] if plateau else []))


def walked(optimizer: Any, scheduler: Any, steps: int) -> dict[str, Any]:
    """Return, for each group, the rates and the momenta now and after each of so many steps."""
    seen = [held(optimizer)]
    first = scheduler.last_epoch
    for step in range(1, steps + 1):
        advance(optimizer, scheduler)
        seen.append(held(optimizer))
        assert (scheduler.last_epoch, scheduler.last_lr) == (first + step, seen[-1][0])
    rates, momenta = zip(*seen, strict=True)
    return {"rates": columns(rates), "momenta": columns(momenta)}


def columns(rows: Any) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def walk(build: Build, groups: int = 3) -> dict[str, Any]:
    optimizer = Optimizer(groups)
    return walked(optimizer, build(optimizer), STEPS)


def far(build: Build, last: int) -> dict[str, Any]:
    """Return the rates of times far away, or the name of the exception."""
    scheduler = build(Optimizer())
    found: dict[str, Any] = {}
    for t in FAR:
        if t <= last:
            try:
                found[str(t)] = rates_at(scheduler, t)
            except OverflowError as error:
                found[str(t)] = type(error).__name__
    assert scheduler.last_lr == held(scheduler.optimizer)[0] == held(build(Optimizer()).optimizer)[0]
    return found


def state(build: Build, steps: int) -> Any:
    optimizer = Optimizer()
    scheduler = build(optimizer)
    walked(optimizer, scheduler, steps)
    return json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))


def loaded(build: Build, steps: int) -> dict[str, Any]:
    """Return what stands in a new optimizer once a new scheduler on it has taken over a state, and after some steps."""
    optimizer = Optimizer()
    scheduler = build(optimizer)
    scheduler.load_state_dict(state(build, steps))
    return walked(optimizer, scheduler, AFTER_LOADING)


def recipe(expression: str, length: int) -> Any:
    """Return the rates of a run of so many epochs and a few beyond, for each of two groups, or why it is too short."""
    schedule = eval(expression, {**{name: getattr(schedules, name) for name in schedules.__all__}, "power": power})
    try:
        schedule = schedule.sized(length)
    except ValueError as error:
        return str(error)
    scheduler = lr_scheduler.LRScheduler(Optimizer(2), schedule)
    times = range(length + 4) if length <= 100 else [*range(0, length, 19), length - 1, length, length + 1]
    return columns(rates_at(scheduler, t) for t in times)


@cache
def torch_states() -> dict[str, Any]:
    return read("torch_states")


def torch_state(name: str, epoch: int) -> Any:
    return copy.deepcopy(torch_states()[f"torch_states: {name}: after {epoch}"])


def from_torch(build: Callable[[Any, Any], Any], name: str, epoch: int) -> dict[str, Any]:
    optimizer = Optimizer(2)
    scheduler = build(lr_scheduler, optimizer)
    scheduler.load_state_dict(torch_state(name, epoch))
    return walked(optimizer, scheduler, AFTER_TORCH)


def refused(name: str, epoch: int, build: Build) -> dict[str, Any]:
    optimizer = Optimizer(2)
    scheduler = build(optimizer)
    before = held(optimizer), scheduler.state_dict()
    try:
        scheduler.load_state_dict(torch_state(name, epoch))
    except (TypeError, ValueError) as error:
        assert (held(optimizer), scheduler.state_dict()) == before  # nothing has changed
        return {"error": type(error).__name__, "text": str(error), "notes": getattr(error, "__notes__", [])}
    raise AssertionError(f"the state of {name} was not refused")


def preferred(name: str, epoch: int, build: Build, prefer: str) -> dict[str, Any]:
    optimizer = Optimizer(2)
    scheduler = build(optimizer)
    scheduler.load_state_dict(torch_state(name, epoch), prefer=prefer)
    return walked(optimizer, scheduler, AFTER_TORCH)


def library() -> dict[str, list[float]]:
    """Return what this machine's mathematical library makes of some sines and powers: not all make the same."""
    numbers = [0.001 + 0.017 * n for n in range(200)]
    return {
        "sin": [math.sin(number) for number in numbers],
        "pow": [0.93**n for n in range(200)],
        "real pow": [number**0.7 for number in numbers],
    }


def table() -> dict[str, Callable[[], Any]]:
    """Return every result by its name, "table: what, of which set-up"."""
    found: dict[str, Callable[[], Any]] = {"library: sin and pow": library}
    for name, build in {**SCHEDULES, **PLATEAUS}.items():
        found[f"schedules: {name}: walk"] = partial(walk, build)
        if name in SCHEDULES:
            found[f"schedules: {name}: far"] = partial(far, build, NEARER.get(name, FAR[-1]))
        for steps in STATES_AFTER:
            found[f"states: {name}: after {steps}"] = partial(state, build, steps)
            found[f"states: {name}: loaded after {steps}"] = partial(loaded, build, steps)
    for name in RECIPES:
        for length in LENGTHS:
            found[f"recipes: {name}: {length}"] = partial(recipe, name, length)
    for name, make_torch in TORCH.items():
        for epoch in TORCH_EPOCHS:
            found[f"torch: {name}: after {epoch}"] = partial(from_torch, make_torch, name, epoch)
    for name, refusal in REFUSED.items():
        found[f"torch: refused: {name}"] = partial(refused, *refusal)
        if name in PREFERRED:
            for prefer in ("constructor", "state"):
                found[f"torch: preferred {prefer}: {name}"] = partial(preferred, *refusal, prefer)
    for name, trace in TRACES.items():
        found[f"traces: {name}"] = trace
    return found
