"""A program of mistakes that type checkers find before it runs: exactly the lines that end in "wrong"."""

from attrs import define, field

import lucid_train
from lucid_train import Callback, EpochEnd, Event, StepEnd, Trainer, on
from lucid_train.callback import Hook
from lucid_train.callbacks import EarlyStopping, LRSchedulerCallback, RichLogger
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from lucid_train.schedules import Cosine


@define(kw_only=True)
class BatchLost(Event):
    number: int = 0


@define(eq=False)
class Good(Callback):
    patience: int = 3
    loss: float = field(default=0.0, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        super().on_epoch_end(event)
        self.loss = event.metrics["loss"]

    def on_batch_lost(self, event: BatchLost) -> None:
        event.run.stop(f"batch {event.number} is lost")

    @on(StepEnd, every=2, when=lambda event: event.loss > 1)
    def look(self, event: StepEnd) -> None:
        event.run.emit(BatchLost(run=event.run, number=event.step))

    def hooks(self, event: type[Event]) -> list[Hook]:
        return super().hooks(event)


@define(eq=False)
class Wrong(Callback):
    def on_epoch_end(self, event: StepEnd) -> None:  # wrong
        print(event.loss)

    def on_step_end(self, event: StepEnd) -> None:
        print(event.lr)  # wrong

    @on(EpochEnd, when=lambda event: event.loss > 1)  # wrong
    def look(self, event: EpochEnd) -> None:
        print(event.epoch)

    @on(EpochEnd)  # wrong
    def see(self, event: StepEnd) -> None:
        print(event.loss)


def train_step(x: float, y: float) -> float:
    return x + y


def returns_tuple(batch: float) -> tuple[float, float]:
    return batch, batch


def with_model(model: object) -> float:
    return 0.5


optimizer = SGD(Linear(1, 1).parameters(), lr=0.1)
trainer = Trainer(step=float, data=[1.0], optimizer=optimizer, callbacks=[Good()])
Good(patience="3")  # wrong
Trainer(step=train_step, data=[(1.0, 2.0)])  # wrong
Trainer(step=returns_tuple, data=[1.0])  # wrong
Trainer(step=float, data=[1.0], evaluate=with_model)  # wrong
Trainer(optimizer=Linear(1, 1))  # wrong
Trainer(model=Linear)  # wrong
Trainer(callbacks=[EarlyStopping])  # wrong
Trainer(callbacks=[Cosine()])  # wrong
Trainer(callbacks=RichLogger())  # wrong
Trainer(max_epochs=3)  # wrong
EarlyStopping("val_loss", mode="auto")  # wrong
LRSchedulerCallback("cosine")  # wrong
LRSchedulerCallback(Cosine(), interval="batch")  # wrong
RichLogger(metrics=3)  # wrong
trainer.on("epoch_end")  # wrong
trainer.on(EpochEnd, when=lambda event: event.loss > 1)  # wrong


@trainer.on(EpochEnd)  # wrong
def show(event: StepEnd) -> None:
    print(event.loss)


@trainer.on(EpochEnd, every=2)
def fine(event: Event) -> None:
    print(event.run.epoch)


trainer.fit(resume=True)  # wrong
trainer.fit().metrics("loss")  # wrong
lucid_train.Traner()  # wrong
