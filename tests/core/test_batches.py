"""The total batch: how it is divided, told and refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_gen.core.batches import Batches, divide, micro_batches_of, split
from lit_gen.core.errors import UserError
from lit_gen.protocols.images import ImageBatch


@given(rows=st.integers(1, 40), world=st.integers(1, 8), most=st.none() | st.integers(1, 50), updates=st.integers(1, 3))
def test_the_fewest_micro_batches_that_divide_and_fit(rows, world, most, updates):
    found = divide(rows * world, world, most, updates)
    assert found.rows * found.micro_batches == rows
    assert most is None or found.rows <= most
    fewer = [m for m in range(1, found.micro_batches) if rows % m == 0 and (most is None or rows // m <= most)]
    assert fewer == []
    places = torch.cat([found.of_rank(rank) for rank in range(world)])
    assert sorted(places.tolist()) == list(range(found.per_step))


def test_what_a_rank_reads_lies_by_update_and_micro_batch():
    divided = Batches(8, world=2, micro_batches=2, updates=2)
    assert divided.of_rank(0).tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    assert divided.of_rank(1).tolist() == [2, 3, 6, 7, 10, 11, 14, 15]


@pytest.mark.parametrize(
    ("size", "world", "told"),
    [
        (64, 3, "63 or 66 is expected, or 2 or 4 devices"),
        (64, 128, "128 is expected, or 64 devices"),
        (7, 2, "6 or 8 is expected, or 1 or 7 devices"),
        (1, 2, "2 is expected, or 1 device"),
    ],
)
def test_ranks_that_do_not_divide_a_batch_are_refused(size, world, told):
    with pytest.raises(UserError) as error:
        divide(size, world)
    start = (
        f"data.batch_size: {size} was found, which {world} ranks (trainer.devices, trainer.num_nodes) do not divide; "
    )
    assert str(error.value) == start + told


def test_the_first_line_of_a_run():
    assert divide(64, 2, 16, 5).told("images", 6) == (
        "64 images per update = 2 ranks x 2 micro-batches x 16; 6 updates a step, 320 images"
    )
    assert divide(64, 1).told("images", 1) == "64 images per update"
    assert divide(1000, 1, 500).told("crops", 1, "64,000 tokens") == (
        "1,000 crops per update = 1 rank x 2 micro-batches x 500; 1 update a step, 64,000 tokens"
    )


def test_a_batch_splits_into_parts_of_its_rows():
    batch = ImageBatch(torch.arange(12.0).view(6, 2), None, torch.arange(6), 3)
    parts = split(batch, micro_batches_of(batch))
    assert [part.indices.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert all(part.labels is None for part in parts)
    assert split(batch, 1)[0] is batch
    assert micro_batches_of((torch.zeros(2),)) == 1
