"""The total batch: how the items of one update are divided among ranks and micro-batches."""

from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor

from lit_gen.core.errors import UserError

B = TypeVar("B", bound=tuple[Any, ...])


class Batches(NamedTuple):
    """How the items that one step reads are divided among ranks and micro-batches.

    Item i of a step has the same place in the training data, and the same noise, for every division.
    """

    size: int
    """Items of one update, over all ranks and micro-batches."""
    world: int = 1
    """Ranks."""
    micro_batches: int = 1
    """Batches whose gradients a rank adds up for one update."""
    updates: int = 1
    """Updates of a step that read their own batch."""

    @property
    def rows(self) -> int:
        """Items of one micro-batch of one rank."""
        return self.size // (self.world * self.micro_batches)

    @property
    def per_step(self) -> int:
        """Items of one step."""
        return self.size * self.updates

    def of_rank(self, rank: int) -> Tensor:
        """Places within the step of a rank's items, int64 (updates * micro_batches * rows,), in that order."""
        places = torch.arange(self.per_step).view(self.updates, self.micro_batches, self.world, self.rows)
        return places[:, :, rank].flatten()

    def told(self, items: str, updates: int, counted: str = "") -> str:
        """``64 images per update = 2 ranks x 2 micro-batches x 16; 6 updates a step, 320 images``.

        Args:
            items: what they are.
            updates: all updates of a step, including those that do not read their own batch.
            counted: the size of a step in another unit, if items are not its unit.
        """
        text = f"{self.size:,} {items} per update"
        if self.world * self.micro_batches > 1:
            text += f" = {_count(self.world, 'rank')} x {_count(self.micro_batches, 'micro-batch', 'es')} x {self.rows}"
        step = counted or (f"{self.per_step:,} {items}" if updates > 1 else "")
        return f"{text}; {_count(updates, 'update')} a step, {step}" if step else text


def divide(size: int, world: int, most: int | None = None, updates: int = 1) -> Batches:
    """Divide an update's items among ranks, and a rank's among as few micro-batches as possible.

    Args:
        size: items of one update, ``data.batch_size``.
        world: ranks.
        most: the largest number of items that a device takes at once, ``data.device_batch_size``; None for no limit.
        updates: updates of a step that read their own batch.

    Raises:
        UserError: if the ranks do not divide ``size``; names the nearest sizes and numbers of devices.
    """
    if size % world:
        nearest = [n for n in (size // world * world, size // world * world + world) if n]
        devices = [d for d in range(1, size + 1) if size % d == 0]
        around = [max(d for d in devices if d < world), *[d for d in devices if d > world][:1]]
        raise UserError(
            f"data.batch_size: {size} was found, which {world} ranks (trainer.devices, trainer.num_nodes) do not "
            f"divide; {_either(nearest)} is expected, or {_either(around)} {'device' if around == [1] else 'devices'}"
        )
    rows = size // world
    micro = next(m for m in range(1, rows + 1) if rows % m == 0 and (most is None or rows // m <= most))
    return Batches(size, world, micro, updates)


def refuse_accumulation(found: int) -> None:
    """Refuse a trainer that accumulates the gradients of several batches: a batch would then not be a step.

    Raises:
        UserError: if ``found`` is not 1.
    """
    if found != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches: {found} was found, but micro-batches are derived: set data.batch_size, "
            f"the items of one update over all devices, and data.device_batch_size, the most that one takes at once"
        )


def refuse_micro_batches(module: str, count: int) -> NoReturn:
    """Refuse a module that trains on a whole batch at once when the data divide it into micro-batches.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"data.device_batch_size: it makes {count} micro-batches of a batch, which {module} takes at once; null or a "
        f"larger number is expected"
    )


def split(batch: B, parts: int) -> list[B]:
    """Split a batch, a named tuple of tensors of (B, ...), None and numbers, into equal parts of its rows.

    Raises:
        UserError: if its rows are not a multiple of ``parts``.
    """
    if parts == 1:
        return [batch]
    uneven = next((len(each) for each in batch if isinstance(each, Tensor) and len(each) % parts), None)
    if uneven is not None:
        raise UserError(
            f"data: a step got {uneven} rows for {parts} equal parts (model.n_critic, data.device_batch_size); the "
            f"train loader must yield all rows of a step together, as lit_gen's do"
        )
    columns = [each.chunk(parts) if isinstance(each, Tensor) else [each] * parts for each in batch]
    make: Any = type(batch)
    return [make(*row) for row in zip(*columns, strict=True)]


def micro_batches_of(batch: object) -> int:
    """How many micro-batches of an update a batch holds; 1 if it does not say."""
    return int(getattr(batch, "micro_batches", 1))


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{plural}"


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(str(n) for n in numbers)
