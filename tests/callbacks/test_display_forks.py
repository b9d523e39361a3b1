import os
import threading
import time

from lucid_train.callbacks.display.terminal.forks import held_while_forking


def test_a_fork_waits_for_the_drawing_and_the_child_finds_the_lock_free() -> None:
    lock = threading.RLock()
    drawing, drawn = threading.Event(), threading.Event()

    def draw() -> None:
        with lock:
            drawing.set()
            time.sleep(0.05)
            drawn.set()

    thread = threading.Thread(target=draw)
    with held_while_forking(lock):
        thread.start()
        drawing.wait()
        child = os.fork()
        if not child:
            os._exit(0 if drawn.is_set() and lock.acquire(timeout=1) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.acquire(timeout=1)
        lock.release()
    thread.join()


def test_afterwards_a_fork_waits_for_nobody() -> None:
    lock = threading.RLock()
    with held_while_forking(lock):
        pass
    taken, done = threading.Event(), threading.Event()

    def keep() -> None:
        with lock:
            taken.set()
            done.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    taken.wait()
    child = os.fork()
    if not child:
        os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
