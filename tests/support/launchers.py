"""Programs that torchrun or mpirun starts as several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from attrs import define, field

ROOT = Path(__file__).parent.parent.parent
# The script torchrun may belong to another environment than this interpreter.
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    # Containers run as root, which Open MPI wants to be said twice; a long TMPDIR would not fit the name of its socket.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "TMPDIR": "/tmp",
    # Without it, and --standalone, torchrun's own restarts find the addresses of processes that are gone.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


def torchrun(program: object, *arguments: object, size: int = 2) -> list[str]:
    """Return the command that starts a program under torchrun."""
    return [*_TORCHRUN, "--nproc-per-node", str(size), str(program), *map(str, arguments)]


def mpirun(program: object, *arguments: object, size: int = 2) -> list[str]:
    """Return the command that starts a program under mpirun."""
    started = ["mpirun", "--oversubscribe", "-n", str(size), sys.executable, "-m", "mpi4py"]
    return [*started, str(program), *map(str, arguments)]


def completed(
    command: list[str], timeout: float = 110.0, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, by default this one; it must succeed. Return what it wrote."""
    env = {**os.environ, **_ENVIRONMENT}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    # What PyTorch aborts with where a model of DDP is alive when its groups are destroyed.
    assert "terminate called" not in done.stderr
    return done


@define
class Launched:
    """A launcher that is running.

    Args:
        command: What starts it.
        folder: Where its output goes; a pipe that nobody reads would stop who writes to it.
    """

    command: list[str]
    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    _files: list[IO[str]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files = [(self.folder / name).open("w+") for name in ("stdout", "stderr")]
        output, errors = self._files
        env = {**os.environ, **_ENVIRONMENT}
        self.process = subprocess.Popen(self.command, env=env, stdout=output, stderr=errors, text=True)

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()

    def wait_until(self, condition: Callable[[], bool], timeout: float = 100.0) -> None:
        """Wait until a condition holds."""
        latest = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < latest, f"nothing after {timeout} s: {self.errors}"
            time.sleep(0.01)

    def run_for(self, seconds: float) -> None:
        """Wait for so long, and make sure that it is still running."""
        time.sleep(seconds)
        assert self.process.poll() is None, self.errors

    def send(self, number: int, pid: int | None = None) -> None:
        """Send a signal to the launcher, or to a process of its."""
        os.kill(self.process.pid if pid is None else pid, number)

    def wait(self, timeout: float = 100.0) -> int:
        """Return the launcher's exit code."""
        return self.process.wait(timeout)

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()[-4000:]
