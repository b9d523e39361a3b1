"""How a run carries out a command at a safe point, the same on all its processes."""

from __future__ import annotations

from collections.abc import Sequence

from lucid_train.callback import Answer, Callback
from lucid_train.command import Command
from lucid_train.description import object_name
from lucid_train.events import CommandAnswered
from lucid_train.optims.param_groups import Attributes, identities, param_groups, read_rates, sync, write_value
from lucid_train.training.run import Control, Run, Stop
from lucid_train.validation import real_number

NO_EVALUATION = "the Trainer has no evaluate=... to call"


def execute(command: Command, fit: Control, run: Run) -> None:
    """Carry out a command, or refuse it, and emit CommandAnswered when that is done.

    What callbacks raise, other than a refusal, leaves the fit as from a hook of theirs.
    """
    try:
        if command.refusal is not None:
            raise ValueError(command.refusal)
        answers = _ANSWERS[command.name](command, fit, run)
    except (ValueError, OverflowError) as error:
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
    texts, done = list[str](), True
    for each in answers:
        try:
            texts.append(each() if callable(each) else each)
        except ValueError as error:  # no checkpoint could be written
            texts.append(str(error))
            done = command.name == "set"  # which was done before
    run.emit(answer_to(command, run, ", ".join(texts), done=done))


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
        raise ValueError(NO_EVALUATION)
    fit.unevaluated.append(command)
    fit.attention = True
    return []  # the evaluation answers


def _set(command: Command, fit: Control, run: Run) -> list[Answer]:
    shared, owners, elsewhere = identities(run.optimizer), list[Callback](), list[Callback]()
    for optimizer, key, callback in fit.claims:
        if key == command.key:
            is_of_run = isinstance(optimizer, Attributes) or bool(shared & identities(optimizer))
            (owners if is_of_run else elsewhere).append(callback)
    if len(owners) > 1:
        raise ValueError(f"{command.key!r} must be scheduled by one callback to be set: {len(owners)} schedule it")
    answers = _handled(command, run, elsewhere) or [_set_rates(command, fit, run)]
    try:
        saved = _handled(Command("save"), run) or ["not saved, as the run has no Checkpoint"]
    except ValueError as error:
        saved = [f"not saved: {error}"]
    return [*answers, *saved]


def _set_rates(command: Command, fit: Control, run: Run) -> str:
    """Set the rates of an optimizer that no callback schedules, and keep their ratios."""
    if command.key != "lr" or run.optimizer is None:
        known = dict.fromkeys([*([] if run.optimizer is None else ["lr"]), *(key for _, key, _ in fit.claims)])
        raise ValueError(f"{command.key!r} must be one of the numbers that this run can set: {', '.join(known) or '-'}")
    groups, rates = param_groups(run.optimizer), read_rates(run.optimizer)
    if not rates[0] > 0:
        raise ValueError(f"'lr' must not be {rates[0]:g} in the first group, from which the others are scaled")
    scaled = [command.value * (rate / rates[0]) for rate in rates]
    for rate in scaled:
        real_number("lr", rate)
    for group, rate in zip(groups, scaled, strict=True):
        write_value(group, "lr", rate)
    sync(run.optimizer)
    stepped = any("initial_lr" in group for group in groups)
    hint = ", unless a scheduler that the step itself steps sets it again" if stepped else ""
    return f"lr from {rates[0]:.6g} to {command.value:.6g}{hint}"


def _handled(command: Command, run: Run, others: Sequence[Callback] = ()) -> list[Answer]:
    """Let every callback do its part, but `others`, and return what they have done.

    One that runs on the first process alone has none where there are several: all must do the same.
    """
    answers = list[Answer]()
    for callback in run.callbacks:
        if any(callback is other for other in others) or (callback.ranks == "first" and run.world_size > 1):
            continue
        try:
            answer = callback.handle_command(command)
        except ValueError as error:
            if not answers:
                raise
            answer = f"not by {object_name(callback)}: {error}"  # what others have done stays done
        if answer is None:
            continue
        if not isinstance(answer, str) and not callable(answer):
            raise TypeError(
                f"{object_name(callback)}.handle_command() must return a text, a function or None: {answer!r}"
            )
        answers.append(answer)
    return answers


_ANSWERS = {"save": _save, "stop": _stop, "evaluate": _evaluate, "set": _set}
