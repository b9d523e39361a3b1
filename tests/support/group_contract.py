"""What every Group does, run on each rank: `python group_contract.py ENGINE PART`, and the threads' by import."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

from lucid_train.group.discovery import open_group, place
from lucid_train.group.mpi_group import MPIGroup
from lucid_train.group.protocol import Group
from lucid_train.testing.processes import SocketGroup

Opened = Callable[[], Group]


def refused(error: type[Exception], exchange: Callable[[], object]) -> str:
    """Return the message of what is raised."""
    try:
        exchange()
    except error as raised:
        return str(raised)
    raise AssertionError(f"no {error.__name__}")


def exchanges(opened: Opened) -> None:
    """Contents of different lengths in rank order, votes read late, between gathers and in any order."""
    group = opened()
    rank, size = group.rank, group.world_size
    ranks = range(size)
    assert isinstance(group, Group)
    assert 0 <= rank < size
    assert group.gather(bytes([rank])) == [bytes([each]) for each in ranks]
    assert group.gather(b"") == [b""] * size
    assert group.gather(b"" if rank else b"first") == [b"first", *[b""] * (size - 1)]
    assert group.gather(b"\0" * rank, within=30.0) == [b"\0" * each for each in ranks]
    long = 100_000 * (size - rank)
    assert [len(each) for each in group.gather(bytes([rank]) * long)] == [100_000 * (size - each) for each in ranks]

    assert group.post([rank, -rank, 0.1])() == [size - 1, 0.0, 0.1]
    read = [group.post([number + rank, float("-inf")]) for number in range(20)]
    assert group.gather(b"between") == [b"between"] * size
    expected = [[number + size - 1.0, float("-inf")] for number in range(20)]
    assert [each() for each in read[:10]] == expected[:10]
    assert group.gather(b"again") == [b"again"] * size
    assert [each() for each in reversed(read)] == expected[::-1]  # in any order, and twice
    group.post([1.0])  # never read
    group.gather(b"")

    group.close()
    group.close()
    assert f"the group of rank {rank} is closed" in refused(ConnectionError, lambda: group.gather(b""))
    assert f"the group of rank {rank} is closed" in refused(ConnectionError, lambda: group.post([1.0]))


def timeout(opened: Opened) -> None:
    """Who waits in vain gets a TimeoutError, and can exchange nothing more."""
    timed_out = Path(os.environ["CONTRACT_FOLDER"]) / "timed out"
    group = opened()
    group.gather(b"all are here")
    if group.rank == 0:
        assert "0.2 s" in refused(TimeoutError, lambda: group.gather(b"", within=0.2))
        assert "closed" in refused(ConnectionError, lambda: group.gather(b""))
        timed_out.touch()
    while not timed_out.exists():  # the others do not come, and do not leave
        sleep(0.01)
    group.close()


def cost(opened: Opened) -> None:
    """Print microseconds of a vote posted and read, of posting alone, and of a gather of 200 bytes."""
    group, n = opened(), 500
    times = []
    for _ in range(3):
        group.gather(b"")
        start = perf_counter()
        for _ in range(n):
            group.post([1.0, 2.0, 3.0, 4.0])()
        voted = perf_counter()
        for _ in range(n):
            group.gather(b"x" * 200)
        gathered = perf_counter()
        posting = 0.0
        for _ in range(n):
            before = perf_counter()
            read = group.post([1.0, 2.0, 3.0, 4.0])
            posting += perf_counter() - before
            read()
        times.append([round(each / n * 1e6) for each in (voted - start, posting, gathered - voted)])
    if group.rank == 0:
        print(f"{group.name}: us of post and read, of post, of gather: {times}")
    group.close()


def dead_peer(opened: Opened) -> None:
    """The last rank dies; what the others wait for is a ConnectionError, the vote as well as the gather."""
    group = opened()
    group.gather(b"all are here")
    if group.rank == group.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    read = None
    try:
        read = group.post([1.0])
        read()
    except ConnectionError:
        print("vote lost")
    refused(ConnectionError, lambda: group.gather(b""))
    print("gather lost", flush=True)
    os._exit(3)  # torch's and MPI's own ends wait for the dead


def torch_group(world: str) -> Opened:
    import torch.distributed as dist

    from lucid_train.group.torch_group import TorchGroup

    assert "must be initialised" in refused(RuntimeError, TorchGroup)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "MASTER_ADDR" in os.environ:  # torchrun
        dist.init_process_group("gloo")
    else:
        store = f"file://{os.environ['CONTRACT_FOLDER']}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    others = [each for each in range(size) if each != rank]
    assert f"'ranks' must contain the rank of this process, {rank}: {others}" in refused(
        ValueError, lambda: TorchGroup(others)
    )
    return (lambda: TorchGroup(range(size))) if world == "part" else open_group


def mpi_group() -> Opened:
    from mpi4py import MPI

    assert place() == (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
    return open_group


def main(engine: str, *parts: str) -> None:
    if engine.startswith("torch"):
        opened, name = torch_group(engine.partition("-")[2]), "torch.distributed"
    elif engine == "mpi":
        opened, name = mpi_group(), "MPI"
    else:
        opened, name = SocketGroup.from_environment, "sockets"
    checks = {"exchanges": exchanges, "timeout": timeout, "cost": cost, "dead_peer": dead_peer}
    for part in parts:
        checks[part](opened)
    if engine.startswith("torch"):
        import torch.distributed as dist

        assert place() == (dist.get_rank(), dist.get_world_size())
        dist.destroy_process_group()
    if engine == "mpi":
        from mpi4py import MPI

        if "timeout" not in parts:  # whose request is still under way
            MPI.Finalize()
            assert "not finalized" in refused(RuntimeError, MPIGroup)
    sys.stdout.write(f"{name} keeps the contract\n")  # in one piece, as the lines of ranks mix
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
