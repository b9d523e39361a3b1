"""The recipe that says how a run has ended, with apprise, which posts to a server on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, TimeLimit
from lucid_train.testing import run_in_threads
from tests.support.examples import EXAMPLES, load_example

recipe: Any = load_example("notify")

# apprise imports it where it loads its services.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Server:
    """An HTTP server that keeps what is posted to it, and may refuse it or not answer.

    Attributes:
        received: The title and the text of each notification.
        status: With what it answers.
        answers: Cleared while it does not answer.
    """

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.answers.wait(30)
                server.received.append((body["title"], body["message"]))
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.answers.set()
    found.http.shutdown()
    found.http.server_close()
    thread.join()


def trainer(
    send: Callable[[str, str], object], step: Any = lambda batch: batch / 2, *more: Any, **other: Any
) -> Trainer:
    return Trainer(step, [1.0, 2.0], epochs=2, callbacks=[recipe.Notify(send, name="digits"), *more], **other)


def test_a_run_that_completes_says_so_with_its_last_metrics(server: Server) -> None:
    trainer(recipe.by_apprise(server.url)).fit()
    assert server.received == [("digits completed", "epoch 2 of 2, step 4; loss 0.75")]


def test_one_that_is_stopped_says_why(server: Server) -> None:
    trainer(recipe.by_apprise(server.url), lambda batch: time.sleep(0.02), TimeLimit(0.01)).fit()
    [(title, text)] = server.received
    assert title == "digits stopped"
    assert text.endswith("; epoch 1 of 2, step 1")


def test_one_that_fails_says_what_was_raised_and_raises_it(server: Server) -> None:
    def step(batch: float) -> float:
        return 1 / (batch - 2)

    with pytest.raises(ZeroDivisionError, match="float division by zero") as caught:
        trainer(recipe.by_apprise(server.url), step).fit()
    assert caught.value.__notes__ == ["raised in epoch 1 after step 1"]
    assert server.received == [("digits failed", "ZeroDivisionError: float division by zero; epoch 1 of 2, step 1")]


@pytest.mark.parametrize(("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_one_that_a_signal_interrupts_says_by_which(
    signum: signal.Signals, error: type[BaseException], server: Server, tmp_path: Path
) -> None:
    def step(batch: float) -> float:
        os.kill(os.getpid(), signum)
        return batch

    with pytest.raises(error):
        trainer(recipe.by_apprise(server.url), step, Checkpoint(tmp_path, weights=False)).fit()
    [(title, text)] = server.received
    assert title == "digits interrupted"
    assert ("Ctrl-C" if signum is signal.SIGINT else "SIGTERM") in text


def test_ctrl_c_needs_no_checkpoint() -> None:
    said: list[tuple[str, str]] = []

    def step(batch: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(lambda title, text: said.append((title, text)), step).fit()
    assert said == [("digits interrupted", "interrupted by Ctrl-C; epoch 1 of 2, step 0")]


def test_a_service_that_refuses_or_is_not_there_is_a_warning_and_the_run_has_completed(server: Server) -> None:
    server.status = 500
    for url in (server.url, "json://127.0.0.1:9"):
        with pytest.warns(RuntimeWarning, match="^no notification was sent: RuntimeError: not all services"):
            history = trainer(recipe.by_apprise(url)).fit()
        assert history.status == "completed"


def test_one_that_does_not_answer_is_given_up_after_the_seconds_in_its_url(server: Server) -> None:
    server.answers.clear()
    with pytest.warns(RuntimeWarning, match="^no notification was sent"):
        history = trainer(recipe.by_apprise(f"{server.url}/?rto=0.2")).fit()
    assert (history.status, server.received) == ("completed", [])


def test_a_function_that_fails_does_not_hide_what_the_run_has_raised() -> None:
    def send(title: str, text: str) -> None:
        raise OSError("no network")

    def step(batch: float) -> None:
        raise ValueError("a broken batch")

    with (
        pytest.warns(RuntimeWarning, match="^no notification was sent: OSError: no network$"),
        pytest.raises(ValueError, match="a broken batch") as caught,
    ):
        trainer(send, step).fit()
    assert caught.value.__context__ is None


def test_of_many_processes_one_sends_also_when_another_fails() -> None:
    said: list[tuple[str, str, int]] = []

    def train(group: Any, fails: bool) -> str:
        def step(batch: float) -> float:
            if fails and group.rank == 1:
                raise ValueError("a broken batch")
            return batch

        def evaluate() -> float:
            return 0.5

        try:
            trainer(
                lambda title, text: said.append((title, text, group.rank)), step, group=group, evaluate=evaluate
            ).fit()
        except Exception as error:
            return type(error).__name__
        return "completed"

    assert run_in_threads(2, lambda group: train(group, fails=False)) == ["completed", "completed"]
    assert said == [("digits completed", "epoch 2 of 2, step 4; loss 1.5, val_loss 0.5", 0)]
    said.clear()
    assert run_in_threads(2, lambda group: train(group, fails=True)) == ["RankError", "ValueError"]
    [(title, text, rank)] = said
    assert (title, rank) == ("digits failed", 0)
    assert text.startswith("RankError: another process is lost, or has failed in its step")


def test_a_url_that_apprise_does_not_know_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match=r"^'urls\[1\]' must be a URL that apprise knows$"):
        recipe.by_apprise("json://127.0.0.1", "nosuchservice://user:password@host")


def test_the_example_prints_both_ends() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "notify.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "digits completed epoch 2 of 2, step 6; loss 0.6111",
        "digits failed ZeroDivisionError: division by zero; epoch 1 of 2, step 1",
        "and ZeroDivisionError has left fit, as it would without a notification",
    ]


def test_the_example_sends_to_the_urls_that_it_is_given(server: Server) -> None:
    command = [sys.executable, str(EXAMPLES / "notify.py"), server.url]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert [title for title, _ in server.received] == ["digits completed", "digits failed"]
