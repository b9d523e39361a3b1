"""Schedules that JAX traces, and steps that JAX runs late; `test_elsewhere_parity` runs these in their own process."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lucid_train import StepEnd, StepResult, Trainer, schedules
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.metrics import Means
from lucid_train.schedules import Schedule
from lucid_train.testing import assert_resumes_exactly
from tests.support.pages import names_of

N = 40
SCHEDULES: list[Schedule] = [
    schedules.Cosine(eta_min=1e-3).warmup("10%", start=0.0),
    schedules.Exponential(0.9),
    schedules.Constant().until("80%").then(schedules.Polynomial()),
    schedules.OneCycle(0.3),
    schedules.WarmRestarts(7),
    schedules.Step(3) * schedules.Function(lambda t: 1 / (1 + t)),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def float32(values: list[float]) -> list[float]:
    return np.asarray(values, np.float32).tolist()


@each_schedule
def test_a_traced_time_is_looked_up_as_the_float32_of_ours(schedule: Schedule) -> None:
    rate = schedule.sized(N).with_base(0.1)
    expected = float32([rate(t) for t in range(N + 1)])
    times = jnp.arange(N + 1)
    compiled = jax.jit(rate)
    assert [compiled(t).item() for t in times] == expected
    assert jax.jit(rate)(times).tolist() == jax.vmap(rate)(times).tolist() == expected
    assert jax.lax.scan(lambda _, t: (None, rate(t)), None, times)[1].tolist() == expected
    assert [compiled(jnp.uint8(t)).item() for t in range(N + 1)] == expected
    found = compiled(jnp.int32(3))
    assert (found.dtype, found.shape) == (jnp.float32, ())


def test_the_value_at_the_end_holds_beyond_it_in_traced_code_and_the_first_one_before() -> None:
    rate = schedules.Cosine().sized(N).with_base(0.1)
    assert rate(N + 1) == 0.1  # an int begins again, as the schedule says
    assert jax.jit(rate)(jnp.array([-5, -1, 0, N - 1, N, N + 1, 10**9])).tolist() == float32(
        [0.1, 0.1, 0.1, rate(N - 1), rate(N), rate(N), rate(N)]
    )


def test_an_array_that_is_not_traced_is_looked_up_too_and_stays_on_its_device() -> None:
    rate = schedules.Exponential(0.9).sized(N).with_base(0.1)
    with jax.disable_jit():
        found = jax.jit(rate)(jnp.int32(2))
    assert isinstance(found, jax.Array)
    assert [found.tolist()] == float32([rate(2)])


def test_doubles_are_those_of_ours() -> None:
    rate = schedules.Cosine().sized(N).with_base(0.1)
    with jax.enable_x64(True):
        assert jax.jit(rate)(jnp.arange(N)).tolist() == [rate(t) for t in range(N)]


def test_the_table_is_made_once_at_the_first_traced_call() -> None:
    asked: list[int] = []

    def factor(t: int) -> float:
        asked.append(t)
        return 1.0

    rate = schedules.Function(factor).sized(N).with_base(0.1)
    assert asked == []
    rate(7)
    rate(np.arange(2))
    assert asked == [7, 0, 1]
    for _ in range(2):
        jax.jit(lambda t: rate(t))(jnp.int32(1))
    assert asked == [7, 0, 1, *range(N + 1)]
    assert rate == schedules.Function(factor).sized(N).with_base(0.1)


def test_a_function_that_was_traced_is_saved_and_traced_again() -> None:
    rate = schedules.Exponential(0.5).sized(N).with_base(1.0)
    jax.jit(rate)(jnp.int32(1))
    assert jax.jit(pickle.loads(pickle.dumps(rate)))(jnp.int32(1)).item() == 0.5


def test_without_the_length_of_the_run_a_traced_time_is_refused() -> None:
    for schedule in (schedules.Exponential(0.5), schedules.Cosine(T_max=5)):
        with pytest.raises(ValueError, match=r"needs the length of the run for arrays of JAX: call \.sized\(n\) first"):
            jax.jit(schedule.with_base(0.1))(jnp.int32(1))


@pytest.mark.parametrize("t", [jnp.float32(1), jnp.bool_(True)])
def test_a_traced_time_that_is_no_int_is_refused(t: Any) -> None:
    with pytest.raises(TypeError, match="'t' must be an int or an integer array"):
        jax.jit(schedules.WarmRestarts(5).sized(9).with_base(0.1))(t)


def trained(transformation: Any, steps: int = 30, *, jitted: bool = True) -> list[float]:
    params = jnp.array([1.0, -2.0])
    state = transformation.init(params)

    def step(params: Any, state: Any) -> Any:
        updates, state = transformation.update(jax.grad(lambda p: jnp.square(p).sum())(params), state, params)
        return optax.apply_updates(params, updates), state

    if jitted:
        step = jax.jit(step)
    for _ in range(steps):
        params, state = step(params, state)
    return [float(each) for each in params]


def test_optax_trains_by_our_schedule_as_by_its_own() -> None:
    ours = schedules.Cosine(after="hold").warmup(5, start=0.0).sized(30).with_base(0.1)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=5, decay_steps=30)
    assert trained(optax.adam(ours)) == pytest.approx(trained(optax.adam(theirs)), rel=1e-5)
    assert trained(optax.inject_hyperparams(optax.adam)(learning_rate=ours)) == pytest.approx(
        trained(optax.inject_hyperparams(optax.adam)(learning_rate=theirs)), rel=1e-5
    )
    assert trained(optax.sgd(ours), 3, jitted=False) == pytest.approx(trained(optax.sgd(ours), 3), rel=1e-6)


def test_a_schedule_of_weight_decay_is_injected_beside_that_of_the_rate() -> None:
    decay = schedules.Polynomial().sized(9).with_base(0.3)
    transformation = optax.inject_hyperparams(optax.adamw)(learning_rate=0.1, weight_decay=decay)
    params = jnp.ones(2)
    state = transformation.init(params)
    seen = []
    for _ in range(11):
        _, state = jax.jit(transformation.update)(params, state, params)
        seen.append(state.hyperparams["weight_decay"].item())
    assert seen == float32([decay(min(t, 9)) for t in range(11)])


class Reads:
    """Counts how often an array of JAX is read by the program."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        kind = type(jnp.ones(()))
        for name in ("__float__", "__bool__", "__index__", "__array__", "item", "tolist", "block_until_ready"):
            self._watch(monkeypatch, kind, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str) -> None:
        original = getattr(kind, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(kind, name, counted)


@pytest.mark.parametrize(
    ("wrap", "mean"),
    [
        (lambda loss: loss, 12.625),
        (lambda loss: {"loss": loss, "twice": 2 * loss}, 12.625),
        (lambda loss: StepResult(loss, weight=2), 12.625),
        (lambda loss: StepResult({"loss": loss}, weight=loss), 16.75),
    ],
    ids=["loss", "metrics", "weight", "weight of jax"],
)
@pytest.mark.parametrize("listened", [False, True])
def test_what_a_jitted_step_returns_stays_where_it_is_until_the_epoch_ends(
    monkeypatch: pytest.MonkeyPatch, wrap: Any, mean: float, listened: bool
) -> None:
    reads, seen = Reads(monkeypatch), []
    loss = jax.jit(lambda batch: batch / 4)

    def step(batch: int) -> Any:
        seen.append(reads.count)
        return wrap(loss(jnp.float32(batch)))

    trainer, outputs = Trainer(step, list(range(1, 101)), epochs=1), []
    if listened:
        trainer.on(StepEnd)(lambda event: outputs.append(event.output))
    history = trainer.fit()
    assert seen == [0] * 100
    assert reads.count > 0
    assert history[0].metrics["loss"] == mean
    assert len(outputs) == 100 * listened


def test_of_many_steps_only_old_ones_are_read_and_little_memory_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, means = Reads(monkeypatch), Means()
    values = [jnp.float32(value) for value in range(5000)]
    held = []
    for count, value in enumerate(values, 1):
        means.add(value)
        assert reads.count <= max(0, count - 1024)
        held.append(len(means.metrics["loss"].late))
    assert max(held) == 2 * 2048  # each with its weight
    assert means.read() == {"loss": 2499.5}


def test_the_running_means_are_complete_when_the_arrays_are() -> None:
    means = Means()
    means.add({"loss": jnp.float32(0.25), "n": 1.0})
    snapshot = means.snapshot()
    jax.block_until_ready(means.metrics["loss"].late)
    assert snapshot.is_complete
    assert snapshot.means.read() == {"loss": 0.25, "n": 1.0}
    assert snapshot.weight() == 1.0
    means.add({"loss": 0.75, "n": 1.0})
    assert means.read() == {"loss": 0.5, "n": 1.0}


def test_an_epoch_that_is_cut_is_resumed_with_the_same_means() -> None:
    assert_resumes_exactly(
        lambda: Trainer(lambda batch: jnp.float32(batch), [0.1, 0.2, 0.7], epochs=2), cuts=range(1, 6)
    )


Optax = names_of("elsewhere.md", "optax in our Trainer")["Optax"]


def optax_trainer(reads: Reads | None = None) -> Trainer:
    optimizer = Optax(optax.adamw, jnp.array([1.0, -2.0]), learning_rate=0.1, weight_decay=0.05)
    gradient = jax.jit(jax.value_and_grad(lambda params, batch: jnp.square(params - batch).sum()))
    seen = []

    def step(batch: float) -> Any:
        loss, grads = gradient(optimizer.params, batch)
        optimizer.step(grads)
        if reads is not None:
            seen.append(reads.count)
            assert reads.count == seen[-1 - (len(seen) - 1) % 5]  # nothing was read since the epoch began
        return loss

    rate = LRSchedulerCallback(schedules.Cosine().warmup("20%"), interval="step")
    return Trainer(step, [0.1, 0.2, 0.3, 0.4, 0.5], epochs=2, optimizer=optimizer, callbacks=[rate])


def test_hyperparameters_of_optax_are_driven_by_our_trainer() -> None:
    trainer = optax_trainer()
    trainer.fit()
    rate = schedules.Cosine().warmup("20%").sized(10).with_base(0.1)
    params = jnp.array([1.0, -2.0])
    transformation = optax.adamw(rate, weight_decay=0.05)
    state = transformation.init(params)
    for batch in [0.1, 0.2, 0.3, 0.4, 0.5] * 2:
        grads = jax.grad(lambda params, batch=batch: jnp.square(params - batch).sum())(params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    optimizer: Any = trainer.optimizer
    assert optimizer.params.tolist() == pytest.approx(params.tolist(), rel=1e-5)
    assert optimizer.opt_state.hyperparams["learning_rate"].item() == float32([rate(9)])[0]
    assert optimizer.param_groups == [{"lr": rate(10), "weight_decay": 0.05, "initial_lr": 0.1}]


def test_a_training_with_optax_is_resumed_exactly() -> None:
    assert_resumes_exactly(optax_trainer, cuts=[1, 3, 5, 8])


def test_a_scheduled_step_with_optax_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = optax_trainer(Reads(monkeypatch))
    assert [record.metrics["loss"] > 0 for record in trainer.fit()] == [True, True]


def test_the_schedule_of_the_page_trains() -> None:
    names = names_of("elsewhere.md", "JAX and optax")
    assert jax.jit(names["rate"])(jnp.int32(50)).item() == np.float32(0.1)
    assert trained(names["optimizer"]) != [1.0, -2.0]
