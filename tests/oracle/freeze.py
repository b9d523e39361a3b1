"""Freeze the results that are not frozen yet, and drop those of set-ups that are gone: `python -m tests.oracle.freeze`.

What is frozen already stays as it is. A result that is meant to differ is listed in `test_oracle.DIFFERENCES` instead.
The states of PyTorch's schedulers are made by the installed PyTorch.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch.optim import lr_scheduler as theirs

from .frozen import read, write
from .results import advance, table
from .setups import MOMENTUM, RATES, TORCH, TORCH_EPOCHS


def torch_states() -> dict[str, Any]:
    """Return the states of PyTorch's schedulers after some epochs, as JSON gives them back."""
    states: dict[str, Any] = {}
    for name, build in TORCH.items():
        groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in RATES[:2]]
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=MOMENTUM)
        scheduler: Any = build(theirs, optimizer)
        for epoch in range(max(TORCH_EPOCHS) + 1):
            if epoch in TORCH_EPOCHS:
                state = json.loads(json.dumps(scheduler.state_dict()))
                states[f"torch_states: {name}: after {epoch}"] = state
            advance(optimizer, scheduler)
    return states


def main() -> None:
    states = torch_states()
    write("torch_states", {**states, **{name: state for name, state in read("torch_states").items() if name in states}})
    results = table()
    for kind in sorted({name.partition(":")[0] for name in results}):
        frozen = read(kind)
        of_kind = {name: result for name, result in results.items() if name.startswith(f"{kind}:")}
        write(kind, {name: frozen[name] if name in frozen else result() for name, result in of_kind.items()})


if __name__ == "__main__":
    main()
