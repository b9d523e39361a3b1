"""The recipes of docs/cookbook.md do what the page says of them, and their runs are resumed exactly."""

from __future__ import annotations

import ast
import copy
import csv
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen
from torch import nn

from lucid_train import EpochEnd, EpochStart, FitStart, StepEnd, StepStart, load_weights
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback
from lucid_train.schedules import Constant
from lucid_train.testing import assert_resumes_exactly, diff_states

PAGE = (Path(__file__).parents[2] / "docs/cookbook.md").read_text("utf-8")
# Titles and texts; the first text is that of the set-up, the last one a list of other pages.
SETUP, *SECTIONS = re.split(r"^## (.+)\n", PAGE, flags=re.MULTILINE)


def cells_of(text: str) -> list[str]:
    """Return the cells that a reader sees."""
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [cell for cell in cells if not cell.startswith(":tags: [remove-cell]")]


@frozen
class Recipe:
    """A recipe of the page, and what has become of it when it has been run.

    Args:
        title: Its title.
        code: Its cell.
        shell: The commands that follow it, or "".
    """

    title: str
    code: str
    shell: str = ""

    def run(self, code: str | None = None) -> Ran:
        """Run the set-up, this cell or a variant of it, and the commands."""
        printed = StringIO()
        names: dict[str, Any] = {}
        with redirect_stdout(printed):
            self._execute(self.code if code is None else code, names)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        if self.shell:
            command = partial(subprocess.run, self.shell, shell=True, check=True, stdout=subprocess.PIPE, text=True)
            printed.write(command(env={**os.environ, "PATH": path}).stdout)
        return Ran(self, names, printed.getvalue())

    def build(self, code: str | None = None) -> dict[str, Any]:
        """Run the set-up, and the cell up to the line in which its Trainer is to train; return the names."""
        lines = (self.code if code is None else code).splitlines()
        end = max(number for number, line in enumerate(lines) if "trainer.fit(" in line)
        end -= lines[end - 1].strip() == "try:"
        names: dict[str, Any] = {}
        with redirect_stdout(StringIO()):
            self._execute("\n".join(lines[:end]), names)
        return names

    def trainer(self) -> Any:
        """Return the Trainer of the recipe, which has trained nothing yet."""
        return self.build()["trainer"]

    def changed(self, before: str, after: str) -> str:
        """Return a variant of the cell."""
        assert self.code.count(before) == 1
        return self.code.replace(before, after)

    def _execute(self, code: str, names: dict[str, Any]) -> None:
        [setup] = cells_of(SETUP)
        for each, name in ((setup, "the set-up"), (code, self.title)):
            exec(compile(each, name, "exec"), names)


@frozen
class Ran:
    """A recipe that has been run.

    Args:
        recipe: The recipe.
        names: What its names stand for afterwards.
        printed: What it has printed.
    """

    recipe: Recipe
    names: dict[str, Any]
    printed: str

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    @property
    def lines(self) -> list[str]:
        return self.printed.splitlines()

    def last(self) -> Any:
        """Return the value that its last line prints."""
        return ast.literal_eval(self.lines[-1])


def read(title: str, text: str) -> Recipe:
    code, *shell = cells_of(text)
    return Recipe(title, code, "".join(each.removeprefix("%%sh\n") for each in shell))


RECIPES = {
    title: read(title, text) for title, text in zip(SECTIONS[::2], SECTIONS[1::2], strict=True) if cells_of(text)
}
Check = Callable[[Ran], None]
CHECKS: dict[str, Check] = {}


def check(title: str) -> Callable[[Check], Check]:
    """List the check of a recipe."""

    def add(function: Check) -> Check:
        assert title not in CHECKS
        CHECKS[title] = function
        return function

    return add


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_are_twenty_recipes_each_with_a_check() -> None:
    assert len(RECIPES) == 20
    assert list(CHECKS) == list(RECIPES)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_one_cell_of_few_lines(title: str) -> None:
    recipe = RECIPES[title]
    assert len([line for line in recipe.code.splitlines() if line.strip()]) <= 28
    assert max(map(len, recipe.code.splitlines())) <= 120


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_the_page_says(title: str, capfd: pytest.CaptureFixture[str]) -> None:
    CHECKS[title](RECIPES[title].run())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("title", RECIPES)
def test_a_run_of_a_recipe_is_resumed_exactly(title: str) -> None:
    assert_resumes_exactly(RECIPES[title].trainer, cuts=[7])


def plain(epochs: int, **settings: Any) -> list[float]:
    """Return the losses of the page's model, trained with nothing of a recipe."""
    code = f"""model, optimizer, loader = make(**{settings!r})
trainer = Trainer(train_step, loader, model=model, optimizer=optimizer, epochs={epochs})
losses = trainer.fit().metric("loss")"""
    losses: list[float] = Recipe("no recipe", code).run()["losses"]
    return losses


def norm_of_gradients(model: Any) -> float:
    return math.hypot(*(float(each.grad.norm()) for each in model.parameters()))


@check("Train on a GPU, in bfloat16, compiled")
def _(ran: Ran) -> None:
    exact = plain(2)
    assert ran["history"].metric("loss") == pytest.approx(exact, rel=0.02)
    assert ran["history"].metric("loss") != exact
    assert ran["fast"] is not ran["model"]
    assert list(ran["trainer"].state_dict()["model"]) == list(ran["make"]()[0].state_dict())


@check("Train in float16 with a GradScaler")
def _(ran: Ran) -> None:
    trainer, schedule = ran.recipe.trainer(), LRSchedulerCallback(Constant().warmup(10), interval="step")
    trainer.callbacks = (schedule,)
    updated: list[bool] = []
    trainer.on(StepEnd)(lambda event: updated.append(event.updated))
    trainer.fit()
    skipped = updated.count(False)
    assert 0 < skipped < len(updated) == 38
    assert schedule.scheduler.last_epoch == len(updated) - skipped
    assert ran["scaler"].get_scale() == 2.0 ** (24 - skipped)


@check("Clip gradients and see their norm")
def _(ran: Ran) -> None:
    trainer = ran.recipe.trainer()
    reported, left, clipped = [], [], []

    def compare(event: StepEnd) -> None:
        reported.append(event.metrics["grad_norm"])
        clipped.append(event.metrics["clipped"])
        left.append(norm_of_gradients(trainer.model))

    trainer.on(StepEnd)(compare)
    history = trainer.fit()
    assert left == pytest.approx([min(1.0, norm) for norm in reported], rel=1e-4)
    assert clipped == [float(norm > 1) for norm in reported]
    assert [record.metrics["clipped"] for record in history] == pytest.approx(
        [sum(clipped[first : first + 19]) / 19 for first in (0, 19, 38)]
    )
    code = ran.recipe.changed("monitor.clip()", "norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)")
    code = code.replace("**monitor.metrics()", '"grad_norm": norm')
    with_torch = ran.recipe.build(code)["trainer"].fit()
    assert with_torch.metric("grad_norm") == pytest.approx(history.metric("grad_norm"), rel=1e-6)


@check("Accumulate gradients over several batches")
def _(ran: Ran) -> None:
    weights: list[tuple[float, float]] = []
    trainer = ran.recipe.trainer()
    trainer.on(StepEnd)(lambda event: weights.append((event.loss, event.output.weight)))
    first, second = trainer.fit()
    assert [record.steps for record in (first, second)] == [5, 5]
    assert [weight for _, weight in weights[:5]] == [256, 256, 256, 256, 174]
    mean = sum(loss * weight for loss, weight in weights[:5]) / 1198
    assert first.metrics["loss"] == pytest.approx(mean, rel=1e-6)
    # One update for a group with a short batch is that for one large batch.
    group = [ran["train_set"][:64], ran["train_set"][64:74]]
    one, other = (ran.recipe.build() for _ in range(2))
    for names, batches in ((one, group), (other, [ran["train_set"][:74]])):
        names["model"].eval()
        names["step"](batches)
    for mine, its in zip(one["model"].parameters(), other["model"].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)


@check("Freeze layers")
def _(ran: Ran) -> None:
    assert ran.printed == "trained: ['4.weight', '4.bias']\n"
    trainer, modes = ran.recipe.trainer(), set()
    trainer.on(StepStart)(lambda event: modes.add((trainer.model[1].training, trainer.model[3].training)))
    trainer.fit()
    assert modes == {(False, True)}


@check("Give layers their own rate and schedule")
def _(ran: Ran) -> None:
    trainer = ran.recipe.trainer()
    weights: list[dict[str, torch.Tensor]] = []
    names = [name for name, _ in trainer.model.named_parameters()]
    trainer.on(EpochStart, at=[1, 3, 4])(lambda event: weights.append(copy.deepcopy(trainer.model.state_dict())))
    backbone, head = zip(*(record.lr for record in trainer.fit()), strict=True)
    cosine = [[(1 + math.cos(math.pi * t / length)) / 2 for t in range(length)] for length in (3, 5)]
    assert backbone == pytest.approx([0, 0, *(0.001 * each for each in cosine[0])], rel=1e-12)
    assert head == pytest.approx([0.01 * each for each in cosine[1]], rel=1e-12)
    first, *later = [{name: each[name] for name in names} for each in weights]
    assert [{name[0] for name in diff_states(first, each)} for each in later] == [{"4"}, {"0", "1", "4"}]


@check("Warm up, then decay along a cosine, per step")
def _(ran: Ran) -> None:
    for epochs, warmup, length in ((5, 10, 95), (10, 19, 190)):
        trainer, rates = ran.recipe.trainer(), list[float]()
        trainer.epochs = epochs
        trainer.on(StepStart)(lambda event, rates=rates: rates.append(event.run.last_lr[0]))
        history = trainer.fit()
        shares = [0.01 + 0.99 * t / warmup for t in range(warmup)]
        places = [t / (length - warmup) for t in range(length - warmup)]
        shares += [0.1 + 0.9 * (1 + math.cos(math.pi * place)) / 2 for place in places]
        assert rates == pytest.approx([0.01 * share for share in shares], rel=1e-12)
        if epochs == 5:
            said = [float(rate) for rate in re.findall(r"epoch \d: \S+ to ([\d.]+\d)", ran.printed)]
            assert said == pytest.approx([record.lr[0] for record in history], rel=1e-5)
            assert ran.last() == [f"{record.lr[0]:.5f}" for record in history]


@check("Lower the rate when a metric stops improving")
def _(ran: Ran) -> None:
    history = ran.recipe.trainer().fit()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1)
    theirs, expected = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1), []
    for loss in history.metric("val_loss"):
        expected.append(optimizer.param_groups[0]["lr"])
        theirs.step(loss)
    assert [record.lr[0] for record in history] == expected
    assert min(expected) < 0.1
    code = ran.recipe.changed("patience=1", "patience=1, schedule=schedules.Constant().warmup(5)")
    rates = [record.lr[0] for record in ran.recipe.build(code)["trainer"].fit()]
    assert rates[:6] == pytest.approx([0.1 * (0.1 + 0.9 * t / 5) for t in range(6)])


@check("Rehearse: overfit one batch, find the learning rate")
def _(ran: Ran) -> None:
    assert float(ran.lines[0].removeprefix("one batch: loss ")) < 0.05
    assert 0.001 < ran["curve"].suggestion < 0.2
    assert ran["history"].metric("loss") == plain(3, lr=ran["curve"].suggestion)


@check("Stop early, or at a target, with the best weights")
def _(ran: Ran) -> None:
    history, stopping = ran["history"], ran["stopping"]
    assert history.reason.startswith("val_accuracy has not improved for 3 epochs")
    assert len(history) == stopping.best_epoch + 3
    assert float(ran["evaluate"]()["accuracy"]) == max(history.metric("val_accuracy")) == stopping.best
    assert history.metric("val_accuracy")[-1] < stopping.best
    history = ran.recipe.run(ran.recipe.changed("0.995", "0.94"))["history"]
    assert history.reason.endswith("as good as 0.94 or better")
    assert [value >= 0.94 for value in history.metric("val_accuracy")] == [False] * (len(history) - 1) + [True]


@check("Keep the best checkpoints, and load their weights")
def _(ran: Ran) -> None:
    values = ran["history"].metric("val_accuracy")
    records = [number for number, value in enumerate(values, 1) if value > max(values[: number - 1], default=-1)]
    epochs = [int(number) for number in re.findall(r"checkpoint-\d+-epoch-(\d+)", ran.printed)]
    assert epochs == [*records, 10][-3:]
    assert {"last.safetensors", "best.safetensors"} < set(ran.lines)
    assert float(ran["evaluate"]()["accuracy"]) == max(values) == values[ran["checkpoint"].best_epoch - 1]


@check("Resume automatically, after a time limit or SIGTERM too")
def _(ran: Ran) -> None:
    assert ran.lines[0] == "job 1: exit code 143"
    assert ran["history"].metric("loss") == plain(3)
    kill = "lambda event: os.kill(os.getpid(), signal.SIGTERM)"
    code = ran.recipe.changed(kill, "lambda event: setattr(callbacks[1], 'seconds', 1e-9)")
    limited = ran.recipe.run(code.replace("runs/preempted", "runs/limited"))
    assert limited.lines[0].startswith("job 1: History(1 epoch, stopped)")
    assert limited["history"].metric("loss") == plain(3)
    assert diff_states(limited["model"].state_dict(), ran["model"].state_dict()) == []


@check("Evaluate averaged weights (EMA)")
def _(ran: Ran) -> None:
    history = ran["history"]
    assert float(ran["evaluate"]()["loss"]) == min(history.metric("val_loss"))
    assert float(ran.lines[1].split()[-1]) < float(ran.lines[0].split()[-1])
    assert history.metric("loss") == plain(6, lr=0.05)
    code = ran.recipe.changed("(0.98)", '(None, interval="epoch", start="75%")').replace("epochs=6", "epochs=8")
    mean, taken = ran.recipe.build(code.replace("runs/average", "runs/mean")), []
    mean["trainer"].on(EpochEnd, at=[6, 7, 8])(lambda event: taken.append(event.run.model[4].weight.clone()))
    mean["trainer"].fit()
    [average, _] = mean["callbacks"]
    assert average.averaged == 3
    torch.testing.assert_close(average.weights["4.weight"], sum(taken) / 3)


@check("Record an F1 score, or any metric that is no mean")
def _(ran: Ran) -> None:
    trainer, seen = ran.recipe.trainer(), []
    trainer.model.register_forward_hook(lambda model, inputs, scores: seen.append(scores.argmax(1) == 8))
    wanted: list[torch.Tensor] = []
    trainer.on(StepStart)(lambda event: wanted.append(event.batch[1] == 8))
    found = trainer.fit().metric("f1")
    assert ran.last() == [round(value, 3) for value in found]
    for epoch, value in enumerate(found):
        ours, theirs = (torch.cat(each[19 * epoch : 19 * (epoch + 1)]) for each in (seen, wanted))
        right, wrong = int((ours & theirs).sum()), int((ours ^ theirs).sum())
        assert value == pytest.approx(2 * right / (2 * right + wrong), rel=1e-6)


@check("Train several models with several optimizers")
def _(ran: Ran) -> None:
    # Two networks that answer each other magnify the last digits of a sum, which are the processor's.
    assert float(ran["generated"].mean()) == pytest.approx(4, abs=1)
    assert 0.3 < float(ran["generated"].std()) < 2.5
    names = ran.recipe.build()
    trainer = names["trainer"]
    trainer.callbacks = (*trainer.callbacks, Checkpoint("runs/gan"))
    history = trainer.fit()
    assert [record.metrics.keys() for record in history] == [{"critic_loss", "generator_loss"}] * 8
    for name in ("generator", "critic"):
        assert diff_states(load_weights("runs/gan", "last", name=name), names[name].state_dict()) == []
    assert [each.param_groups[0]["lr"] for each in (names["of_generator"], names["of_critic"])] == [0, 0]


@check("Evaluate every 10 steps, and see how far it is")
def _(ran: Ran) -> None:
    found = {record.step: round(record.metrics["val_accuracy"], 3) for record in ran["history"].evaluations}
    assert list(found) == [10, 20, 30]
    assert ran.last() == found
    rows = re.findall(r"step (\d+)  val_accuracy ([\d.]+)", ran.printed)
    assert {int(step): float(value) for step, value in rows} == pytest.approx(found, abs=1e-3)
    names = ran.recipe.build(ran.recipe.changed("(model(images)", "(seen.append(run.tracked) or model(images)"))
    names["seen"] = []
    names["trainer"].on(FitStart)(lambda event: names.update(run=event.run))
    names["trainer"].fit()
    assert names["seen"] == [(done, 6) for done in range(6)] * 3


@check("Log runs, and compare them")
def _(ran: Ran) -> None:
    tables = {name: list(csv.DictReader(Path(f"logs/{name}.csv").read_text().splitlines())) for name in "abc"}
    metrics = {name: [(row["loss"], row["val_accuracy"]) for row in rows] for name, rows in tables.items()}
    assert metrics["a"] == metrics["b"] != metrics["c"]
    assert [len(list(Path(f"logs/{name}").glob("events.out.tfevents.*"))) for name in "abc"] == [1, 1, 1]
    assert Path("logs/a.csv").read_text() in ran.printed
    assert "Nothing differs in 41 moments" in ran.printed
    assert "The first difference is at the beginning: weights." in ran.printed
    assert ran.lines[-1] == "exit code 1"


@check("Run a function now and then, and steer a run")
def _(ran: Ran) -> None:
    *rows, reason = ran.lines
    steps = [re.fullmatch(r"step (\d+): loss [\d.]+, lr ([\d.]+)", row) for row in rows]
    assert [match and (int(match[1]), float(match[2])) for match in steps] == [(20, 0.01), (40, 0.001), (60, 0.001)]
    history = ran.recipe.trainer().fit()
    assert reason == f"the loss is low enough in epoch {len(history)}"
    assert [loss < 0.2 for loss in history.metric("loss")] == [False] * (len(history) - 1) + [True]


@check("Train on an endless stream")
def _(ran: Ran) -> None:
    one_pass = ran.recipe.changed("trainer = Trainer(train_step, loader", "trainer = Trainer(train_step, iter(loader)")
    seen: list[list[int]] = []
    for code in (ran.recipe.code, one_pass):
        batches: list[torch.Tensor] = []
        trainer = ran.recipe.build(code)["trainer"]
        trainer.on(StepStart)(lambda event, batches=batches: batches.append(event.batch[1]))
        assert [record.steps for record in trainer.fit()] == [25, 25, 25]
        seen.append(torch.cat(batches).tolist())

    def drawn(seed: int, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        places = [int(torch.randint(1198, (), generator=generator)) for _ in range(count)]
        labels: list[int] = ran["labels"][places].tolist()
        return labels

    assert seen == [[*drawn(0, 1600), *drawn(1, 1600), *drawn(2, 1600)], drawn(0, 4800)]
    assert_resumes_exactly(lambda: ran.recipe.build(one_pass)["trainer"], cuts=[30])


@check("Balance the classes")
def _(ran: Ran) -> None:
    there, drawn = (ast.literal_eval(line.split(": ")[1]) for line in ran.lines[:2])
    assert max(there[8:]) < 20 < 100 < min(there[:8])
    assert sum(drawn) == sum(there)
    assert 70 < min(drawn) < max(drawn) < 130
