"""The laws that every loss, regularizer, network and transform keeps, ours and a user's own alike.

The tests put all of our parts through them, ``lit-gen check my_file.MyPenalty`` a user's.
`lit_gen.laws.base` says what a law is.
"""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lit_gen.core.errors import UserError
from lit_gen.laws import denoisers as denoiser_laws
from lit_gen.laws import networks as network_laws
from lit_gen.laws import regularizers as regularizer_laws
from lit_gen.laws import transforms as transform_laws
from lit_gen.laws import translators as translator_laws
from lit_gen.laws.base import Kind, Law, LawBroken, Maker, Noted, Setting, seeded
from lit_gen.laws.losses import (
    loss_can_be_saved,
    loss_is_a_function,
    loss_is_a_mean,
    loss_is_finite,
    loss_is_two_scalars,
    loss_pulls_the_right_way,
)

__all__ = ["LAWS", "Setting", "Verdict", "examine"]


_OF_BOTH: list[Law] = [network_laws.output, network_laws.gradients, network_laws.evaluation, network_laws.rows]
_OF_BOTH += [network_laws.rebuilding, network_laws.copying, network_laws.labels_matter]

LAWS: dict[Kind, list[Law]] = {
    "loss": [
        loss_is_two_scalars,
        loss_is_finite,
        loss_pulls_the_right_way,
        loss_is_a_mean,
        loss_is_a_function,
        loss_can_be_saved,
    ],
    "regularizer": [
        regularizer_laws.place,
        regularizer_laws.scalar,
        regularizer_laws.finite_values,
        regularizer_laws.finite_at_zero,
        regularizer_laws.mean,
        regularizer_laws.function,
        regularizer_laws.networks_alone,
        regularizer_laws.saving,
    ],
    "generator": _OF_BOTH,
    "discriminator": [*_OF_BOTH, network_laws.second_derivatives],
    "transform": [
        transform_laws.output,
        transform_laws.inverse,
        transform_laws.log_determinant,
        transform_laws.rows,
        transform_laws.gradients,
        transform_laws.evaluation,
        transform_laws.rebuilding,
        transform_laws.copying,
        transform_laws.labels_matter,
    ],
    "denoiser": [
        denoiser_laws.output,
        denoiser_laws.gradients,
        denoiser_laws.level_matters,
        denoiser_laws.labels_matter,
        denoiser_laws.rows,
        denoiser_laws.evaluation,
        denoiser_laws.rebuilding,
        denoiser_laws.copying,
    ],
    "translator": [
        translator_laws.output,
        translator_laws.radius,
        translator_laws.gradients,
        translator_laws.rows,
        translator_laws.evaluation,
        translator_laws.rebuilding,
        translator_laws.copying,
    ],
}


@dataclass(frozen=True)
class Verdict:
    """What became of one law."""

    law: str
    outcome: Literal["ok", "FAIL", "note"]
    found: str = ""


def examine(make: Maker, setting: Setting) -> Iterator[Verdict]:
    """Put what ``make`` builds through the laws of its kind, one verdict each; an exception inside breaks the law.

    Args:
        make: builds the subject anew; called several times for each law.
        setting: its kind, and the images to try it on.
    """
    for law in LAWS[setting.kind]:
        name = (law.__doc__ or law.__name__).splitlines()[0].rstrip(".")
        try:
            with seeded():
                law(make, setting)
        except Noted as note:
            yield Verdict(name, "note", str(note))
        except Exception as error:
            yield Verdict(name, "FAIL", _told(error))
        else:
            yield Verdict(name, "ok")


def _told(error: Exception) -> str:
    if isinstance(error, LawBroken | UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(ours)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"
