"""How a run carries out a command at a safe point, the same on all its processes."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_train.callback import Answer, Callback
from lucid_train.command import Command
from lucid_train.events import CommandAnswered
from lucid_train.optims.param_groups import Attributes, identities, param_groups, read_rates, sync, write_value
from lucid_train.training.run import Control, Run, Stop


def execute(command: Command, fit: Control, run: Run) -> None:
    """Carry out a command, or refuse it, and emit CommandAnswered when that is done.

    What callbacks raise, other than the ValueError of a refusal, leaves the fit as from a hook of theirs.
    """
    try:
        if command.refusal is not None:
            raise ValueError(command.refusal)
        answers = _ANSWERS[command.name](command, fit, run)
    except ValueError as error:
        refused = answer_to(command, run, str(error), done=False)
        run.at_safe_point(lambda: run.emit(refused))  # after the answers to what was asked for before
        return
    if answers:
        # After the checkpoint that may have been asked for just now.
        run.at_safe_point(lambda: _answer(command, run, answers))


def answer_to(command: Command, run: Run, answer: str, *, done: bool = True) -> CommandAnswered:
    """Return the answer to a command."""
    return CommandAnswered(
        run, run.epoch, run.step, command=str(command), done=done, answer=answer, by=command.by, id=command.id
    )


def _answer(command: Command, run: Run, answers: Sequence[Answer]) -> None:
    try:
        event = answer_to(command, run, ", ".join(each() if callable(each) else each for each in answers))
    except ValueError as error:
        event = answer_to(command, run, str(error), done=False)
    run.emit(event)


def _save(command: Command, fit: Control, run: Run) -> list[Answer]:
    answers = _handled(command, run)
    if not answers:
        raise ValueError("the run has no Checkpoint among its callbacks")
    return answers


def _stop(command: Command, fit: Control, run: Run) -> list[Answer]:
    run.grant(Stop(f"stopped by a command of {command.by}" if command.by else "stopped by a command"))
    return [f"the fit ends after step {run.step}"]


def _evaluate(command: Command, fit: Control, run: Run) -> list[Answer]:
    if not run.evaluates:
        raise ValueError("the Trainer has no evaluate=... to call")
    fit.unevaluated.append(command)
    fit.attention = True
    return []  # the evaluation answers


def _set(command: Command, fit: Control, run: Run) -> list[Answer]:
    shared = identities(run.optimizer)
    elsewhere = [
        callback
        for optimizer, key, callback in fit.claims
        if key == command.key and not isinstance(optimizer, Attributes) and not shared & identities(optimizer)
    ]
    answers = _handled(command, run, elsewhere) or [_set_rates(command, fit, run)]
    return [*answers, *(_handled(Command("save"), run) or ["not saved, as the run has no Checkpoint"])]


def _set_rates(command: Command, fit: Control, run: Run) -> str:
    """Set the rates of an optimizer that no callback schedules, and keep their ratios."""
    if command.key != "lr" or run.optimizer is None:
        known = dict.fromkeys([*(["lr"] if run.optimizer is not None else []), *(key for _, key, _ in fit.claims)])
        raise ValueError(f"{command.key!r} must be a number that the run can set, {', '.join(known) or 'of none'}")
    groups, rates = param_groups(run.optimizer), read_rates(run.optimizer)
    if not rates[0] > 0:
        raise ValueError(f"'lr' must not be {rates[0]:g} in the first group, from which the others are scaled")
    for group, rate in zip(groups, rates, strict=True):
        write_value(group, "lr", command.value * (rate / rates[0]))
    sync(run.optimizer)
    return f"lr from {rates[0]:.6g} to {command.value:.6g}"


def _handled(command: Command, run: Run, others: Sequence[Callback] = ()) -> list[Answer]:
    """Let every callback do its part, but `others`, and return what they have done."""
    asked = [callback for callback in run.callbacks if not any(callback is other for other in others)]
    return [answer for callback in asked if (answer := callback.handle_command(command)) is not None]


_ANSWERS = {"save": _save, "stop": _stop, "evaluate": _evaluate, "set": _set}
