"""The states of PyTorch's schedulers, translated to ours: the one place that knows their format (2.13)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lucid_train.description import plain_settings
from lucid_train.schedules.cosine import Cosine
from lucid_train.schedules.cycle import Cyclic, OneCycle, OneCycleMomentum
from lucid_train.schedules.decay import MultiStep
from lucid_train.schedules.function import Function, Multiplicative
from lucid_train.schedules.schedule import Chain, Schedule
from lucid_train.schedules.schedule import Sequence as SequenceOf
from lucid_train.validation import real_number, whole_number

# Entries that say where a scheduler stands, and one that only some versions have; and settings in spite of their names.
_POSITION = {"last_epoch", "base_lrs", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i", "verbose"}
_PRIVATE_SETTINGS = {"_milestones", "_schedule_phases"}


def translated(scheduler: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state of PyTorch's in the form of `state_dict`.

    Args:
        scheduler: The LRScheduler, whose settings fill in what the state does not hold.
        state: The state of the PyTorch scheduler that it stands for.

    Raises:
        ValueError: If it is the state of another scheduler, or functions differ.
    """
    state = dict(state)
    if scheduler.follows_metric:
        return _plateau(state)
    whole = state if "base_lrs" in state else _first_part(state)
    bases = list(whole.get("base_lrs", ()))
    epoch: Any = state.get("last_epoch", whole.get("last_epoch"))
    found: dict[str, Any] = {"last_epoch": epoch}
    bindings = scheduler._bindings
    for binding in bindings:
        each = list(enumerate(binding.per_group()))
        settings = [_settings(schedule, state, group, binding.key) for group, schedule in each]
        named = [{"class": type(schedule).__name__, **settings[group]} for group, schedule in each]
        if not isinstance(binding.schedules, Schedule):
            found[binding.key] = named
        elif any(each != named[0] for each in named):
            raise ValueError(f"the state has settings for each group, and {scheduler!r} one schedule for all: {named}")
        elif named:
            found |= settings[0] if len(bindings) == 1 else {binding.key: named[0]}
        found[binding.bases_name] = bases if binding.key == "lr" else list(binding.bases)
    if "T_cur" in state and float(state["T_cur"]) % 1:  # warm restarts between two epochs
        found["t"] = epoch + float(state["T_cur"]) % 1
    return found


def foreign_settings(scheduler: Any) -> dict[str, Any]:
    """Return the settings of a scheduler that is not of this library as plain JSON, as far as its state has them."""
    return _foreign(scheduler.state_dict()) if hasattr(scheduler, "state_dict") else {}


def progress(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a PyTorch scheduler's state that only say where it stands."""
    return {name: value for name, value in state.items() if _is_progress(name)}


def _is_progress(name: str) -> bool:
    return name in _POSITION or (name.startswith("_") and name not in _PRIVATE_SETTINGS)


def _foreign(value: Any) -> Any:
    """Return the settings in a state, or in a list of those of parts, as plain JSON."""
    if isinstance(value, Mapping):
        named = {str(name): each for name, each in value.items()}  # milestones are a dict with epochs as names
        return {name: _foreign(each) for name, each in _settings_left(named).items()}
    return list(map(_foreign, value)) if isinstance(value, (list, tuple)) else plain_settings(value)


def _first_part(state: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = state.get("_schedulers")
    if not isinstance(parts, list) or not parts:
        return state
    return parts[0] if "base_lrs" in parts[0] else _first_part(parts[0])


def _settings(schedule: Schedule, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    """Return the settings that a group's schedule of a key has in PyTorch's state."""
    translate = _TRANSLATORS.get(type(schedule))
    try:
        return _settings_left(state) if translate is None else translate(schedule, state, group, key)
    except KeyError:  # the state of another scheduler, whose entries are refused by name
        return _settings_left(state)


def _multi_step(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    counts = state.get("milestones")
    # PyTorch counts how often each comes; JSON makes strings of the epochs.
    if isinstance(counts, Mapping):
        counts = sorted(int(epoch) for epoch, count in counts.items() for _ in range(count))
    return {**_settings_left(state, "milestones"), "milestones": counts}


def _cosine(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    # PyTorch's curve climbs back. Up to T_max it equals ours with any `after`, beyond it only with "mirror".
    epoch = whole_number("last_epoch", state.get("last_epoch", 0), least=-1)  # -1 of a part that has not begun
    descending = epoch <= real_number("T_max", state.get("T_max", 0))
    return {**_settings_left(state), "after": schedule.after if descending else "mirror"}


def _function(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    # PyTorch keeps the attributes of callable objects, and None for functions.
    kept = state.get("lr_lambdas") or []
    attributes = kept[group] if group < len(kept) else None
    if attributes and attributes != vars(schedule.f):
        raise ValueError(
            f"'lr_lambda[{group}]' must be the object of the state, functions stay outside: "
            f"it has {vars(schedule.f)!r} and the state {attributes!r}"
        )
    return _settings_left(state, "lr_lambdas")


def _cyclic(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    # PyTorch keeps sums, ratios and lists, and no function but the attributes of a callable object.
    kept = state.get("_scale_fn_custom")
    if kept and kept != getattr(schedule.scale_fn, "__dict__", None):
        raise ValueError(f"'scale_fn' must be the object of the state, functions stay outside: {schedule.scale_fn!r}")
    up = round(state["total_size"] * state["step_ratio"])
    # The momentum goes the other way.
    low, high = ("base_lrs", "max_lrs") if key == "lr" else ("max_momentums", "base_momentums")
    return {
        "base_lr": state[low][group],
        "max_lr": state[high][group],
        "step_size_up": up,
        "step_size_down": round(state["total_size"]) - up,
        "mode": state["mode"],
        "gamma": state["gamma"],
        # Without a function it follows from the mode.
        "scale_mode": schedule.scale_mode if schedule.scale_fn is None else state["scale_mode"],
    }


def _one_cycle(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    # PyTorch keeps most of the settings in the optimizer's groups: those are taken to be the constructor's.
    phases = state["_schedule_phases"]
    share = (phases[0]["end_step"] + 1) / state["total_steps"]
    highest = state["base_lrs"][group] * schedule.div_factor
    return {
        "max_lr": schedule.max_lr if math.isclose(schedule.max_lr, highest, rel_tol=1e-9) else highest,
        "total_steps": state["total_steps"],
        "pct_start": schedule.pct_start if abs(share - schedule.pct_start) < 1e-9 else share,
        "anneal_strategy": state["_anneal_func_type"],
        "div_factor": schedule.div_factor,
        "final_div_factor": schedule.final_div_factor,
        "three_phase": len(phases) == 3,
    }


def _one_cycle_momentum(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    rate = _one_cycle(schedule.cycle, state, group, key) | {"max_lr": schedule.cycle.max_lr}
    cycle = {"class": "OneCycle", **rate}
    return {"cycle": cycle, "base_momentum": schedule.base_momentum, "max_momentum": schedule.max_momentum}


def _parts(schedule: Any, state: Mapping[str, Any], group: int, key: str) -> dict[str, Any]:
    parts = state.get("_schedulers")
    if isinstance(schedule, Chain) and key != "lr" and isinstance(parts, list):
        parts = parts[:1]  # the only one that may bring another key
    if not isinstance(parts, list) or len(parts) != len(schedule.parts):
        found = f"{len(parts)}" if isinstance(parts, list) else "none"
        raise ValueError(f"the state must have as many schedulers as are composed, {len(schedule.parts)}: {found}")
    settings = [
        None if part is None else {"class": type(part).__name__, **_settings(part, theirs, group, key)}
        for part, theirs in zip(schedule.parts, parts, strict=True)
    ]
    ends = {"milestones": list(state["_milestones"])} if "_milestones" in state else {}
    return {"parts": settings, **ends}


def _plateau(state: dict[str, Any]) -> dict[str, Any]:
    if "mode_worse" not in state:
        return state
    every, lowest, worst = state.pop("default_min_lr"), state.pop("min_lrs"), state.pop("mode_worse")
    rates = [float(rate) for rate in state["_last_lr"]]
    best = None if state["best"] == worst else state["best"]
    kept = {name: value for name, value in state.items() if not name.startswith("_") and name != "verbose"}
    return {**kept, "min_lr": lowest if every is None else every, "best": best, "current_lrs": rates}


def _settings_left(state: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the entries that are settings, those of the parts among them, but for the names."""
    return {
        name: value
        for name, value in state.items()
        if (name == "_schedulers" or not _is_progress(name)) and name not in names
    }


_TRANSLATORS: dict[type[Schedule], Callable[[Any, Mapping[str, Any], int, str], dict[str, Any]]] = {
    Chain: _parts,
    Cosine: _cosine,
    Cyclic: _cyclic,
    Function: _function,
    MultiStep: _multi_step,
    Multiplicative: _function,
    OneCycle: _one_cycle,
    OneCycleMomentum: _one_cycle_momentum,
    SequenceOf: _parts,
}
