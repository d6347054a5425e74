"""Which noise belongs to which data of an update: nothing but the order of rows, so that both keep their distributions.

Without a coupling they are independent. One that pairs what is near makes straighter paths, which take fewer steps.
"""

import numpy as np
import torch
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion.base import Path

__all__ = ["Coupling", "OptimalTransport"]


class Coupling:
    """Base: from all rows of an update, of all ranks and micro-batches, to pairs."""

    def pair(self, data: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise of each row of data: a permutation, int64 (N,) on the CPU, a function of its arguments alone.

        Args:
            data: (N, C, H, W), all rows of the update in their global order.
            noise: rows of the source, (N, C, H, W).
            labels: int64 (N,) of the data, of a conditional network: the true ones, whatever the network is told.
        """
        raise NotImplementedError

    def check(self, path: Path, conditional: bool) -> None:
        """Refuse what the coupling is wrong for.

        Raises:
            UserError: naming both.
        """


class OptimalTransport(Coupling):
    """The pairs whose sum of squared distances |x_0 - e|^2 is the least of all permutations.

    Tong et al., 2024, https://arxiv.org/abs/2302.00482; Pooladian et al., 2023, https://arxiv.org/abs/2304.14772; their
    time runs from noise to data. The pairs of a conditional network stay within a class: noise i first gets the label
    of data i, and each class is then transported on its own, so that its noise is that of the source, as it is for
    samples. Over all rows, noise would know of the label. Cheng and Schwing, 2025, https://arxiv.org/abs/2503.10636.

    The pairs are found on the CPU, by ``scipy.optimize.linear_sum_assignment``, in time that grows like N^3: for points
    in the plane, some 0.02 s for 256 of them and a second for 1,024.

    Args:
        within_classes: whether pairs stay within a class, as a conditional network needs it.
    """

    def __init__(self, within_classes: bool = False) -> None:
        self.within_classes = within_classes

    def pair(self, data: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Coupling`.

        Nearly equal costs may be ordered otherwise by another kind of CPU: ranks take the pairs of one of them.
        """
        x, e = (rows.detach().flatten(1).cpu().double().numpy() for rows in (data, noise))
        chosen = np.arange(len(x))
        groups = np.zeros(len(x)) if labels is None or not self.within_classes else labels.cpu().numpy()
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            chosen[rows] = rows[_assigned(x[rows], e[rows])]
        return torch.from_numpy(chosen)

    def check(self, path: Path, conditional: bool) -> None:
        """Refuse a path on which noise that is paired with data is not what samples begin with, and unheeded labels.

        Raises:
            UserError: naming both.
        """
        if float(path.alpha(torch.tensor([path.end]))):
            told = f"the path {type(path).__name__} ends with some of the data, to which the noise must be no clue"
            raise UserError(f"model.coupling: OptimalTransport was found, but {told}; Linear is expected")
        if conditional and not self.within_classes:
            told = "false was found, but the network is conditional: noise that is paired over all classes tells them"
            raise UserError(f"model.coupling.within_classes: {told}, and samples' noise does not; true is expected")
        if self.within_classes and not conditional:
            told = "true was found, but the network is unconditional"
            raise UserError(f"model.coupling.within_classes: {told}; false or a conditional network is expected")


def _assigned(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The row of e for each row of x, (N, D) each.

    Squares |x|^2 and |e|^2, and what the means contribute, are in every sum alike; without them it takes half the time.
    """
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(-(x - x.mean(0)) @ (e - e.mean(0)).T)
    return np.asarray(columns)
