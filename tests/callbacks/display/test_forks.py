import os
import threading
import time

from lucid_train.callbacks import RichLogger
from lucid_train.callbacks.display.ticker import drawing_lock
from tests.support.console import terminal, train


def test_a_fork_waits_for_the_drawing_and_the_child_finds_the_lock_free() -> None:
    lock = drawing_lock()
    drawing, drawn = threading.Event(), threading.Event()

    def draw() -> None:
        with lock:
            drawing.set()
            time.sleep(0.05)
            drawn.set()

    thread = threading.Thread(target=draw)
    thread.start()
    drawing.wait()
    child = os.fork()
    if not child:
        os._exit(0 if drawn.is_set() and free() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert free()
    thread.join()


def free(timeout: float = 1) -> bool:
    """Return whether another thread can take the lock."""
    found: list[bool] = []

    def take() -> None:
        found.append(drawing_lock().acquire(timeout=timeout))
        if found[0]:
            drawing_lock().release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


def test_the_display_holds_the_lock_while_it_draws_and_a_fork_waits_for_nobody_afterwards() -> None:
    held: list[bool] = []
    console = terminal()
    write = console.file.write

    def watched(text: str) -> int:
        held.append(not free(timeout=0))
        return write(text)

    console.file.write = watched  # type: ignore[method-assign]  # to look on while something is drawn
    train(RichLogger(console), step=lambda number: time.sleep(0.05))
    assert any(held)
    assert free()
