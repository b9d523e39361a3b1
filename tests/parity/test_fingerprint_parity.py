"""Fingerprints of batches that are PyTorch's tensors: equal for equal numbers, also for slices of larger tensors."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.saving.fingerprint import fingerprint

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.complex64, torch.int64, torch.uint8, torch.bool]


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4))
def test_a_slice_has_that_of_a_tensor_with_the_same_numbers(dtype: Any, shape: list[int]) -> None:
    numbers = (torch.arange(3**4)[: torch.Size(shape).numel()].reshape(shape) % 5).to(dtype)
    every_second = torch.stack([numbers, torch.zeros_like(numbers)], -1)[..., 0]
    conjugate_twice = numbers.conj().resolve_conj().conj()
    assert fingerprint(every_second) == fingerprint(conjugate_twice) == fingerprint(numbers)
    if numbers.any():
        assert fingerprint(torch.zeros_like(numbers)) != fingerprint(numbers)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_batch_of_one_number_of_a_table_has_one(dtype: Any) -> None:
    table = torch.arange(12).reshape(3, 4).to(dtype)
    assert fingerprint(table[:1, 2]) == fingerprint(torch.tensor([2]).to(dtype)) is not None
