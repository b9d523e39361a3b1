"""A callback of your own that says how a run has ended, by any function, or by apprise to a hundred services.

    python examples/notify.py [URL of apprise ...]

A URL is such as "mailto://user:password@gmail.com" or "slack://token"; it needs apprise. Without one it prints.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from attrs import define, field

from lucid_train import Callback, FitEnd, Trainer
from lucid_train.callback import Ranks

Notification = Callable[[str, str], object]


@define(eq=False)
class Notify(Callback):
    """Call a function with a title and a text when a fit has ended, in whichever way.

    Put it first in the list: at the end of a fit the first callback is the last to run.
    """

    ranks: ClassVar[Ranks] = "first"  # of many processes one sends

    send: Notification = field(repr=False)
    name: str = field(default="training", kw_only=True)

    def settings(self) -> dict[str, Any]:
        return {}  # who is notified does not change the training

    def on_fit_end(self, event: FitEnd) -> None:
        run = event.run
        place = f"epoch {run.epoch} of {run.epochs}, step {run.step}"
        if event.history:
            place += "; " + ", ".join(f"{name} {value:.4g}" for name, value in event.history[-1].metrics.items())
        text = f"{event.reason}; {place}" if event.reason else place
        try:
            self.send(f"{self.name} {event.status}", text)
        except Exception as error:  # the run has ended as it has: this must not make a failure of it, nor hide one
            warnings.warn(f"no notification was sent: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)


def by_apprise(*urls: str) -> Notification:
    """Return a function that sends to all of these services, and raises if one of them has not taken it."""
    import apprise

    services = apprise.Apprise()
    for number, url in enumerate(urls):
        if not services.add(url):  # it may hold a password, which is not to be printed
            raise ValueError(f"'urls[{number}]' must be a URL that apprise knows")

    def send(title: str, text: str) -> None:
        if not services.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT):
            raise RuntimeError("not all services have taken it; apprise's log says why")

    return send


def main(*urls: str) -> None:
    """Train twice; the second run fails."""
    notify = Notify(by_apprise(*urls) if urls else print, name="digits")
    Trainer(lambda batch: 1 / batch, range(1, 4), epochs=2, callbacks=[notify]).fit()
    try:
        Trainer(lambda batch: 1 / batch, range(-1, 4), epochs=2, callbacks=[notify]).fit()
    except ZeroDivisionError as error:
        print(f"and {type(error).__name__} has left fit, as it would without a notification")


if __name__ == "__main__":
    main(*sys.argv[1:])
