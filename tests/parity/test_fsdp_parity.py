"""FSDP2: each process saves its shards in its part, and goes on with them exactly; another world is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
PROGRAM = Path(__file__).parent.parent / "support" / "programs" / "fsdp.py"


def launched(size: int, *arguments: object) -> str:
    """Run the program by torchrun on so many processes; return what all have printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", str(PROGRAM)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        env=environment,
    )
    return done.stdout


def ends(output: str) -> list[str]:
    return sorted(line for line in output.splitlines() if line.startswith("end "))


@pytest.mark.slow
def test_shards_are_saved_by_each_process_and_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    straight = launched(2, tmp_path / "straight")
    assert len(ends(straight)) == 2, straight
    assert "each saves its own weights" in " ".join(straight.split())
    killed = launched(2, tmp_path / "killed", 9)
    assert ends(killed) == []
    assert ends(launched(2, tmp_path / "killed")) == ends(straight)
    assert "world_size is 1 here and 2 in the checkpoint" in launched(1, tmp_path / "killed")
