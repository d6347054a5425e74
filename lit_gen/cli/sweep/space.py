"""The parameters of a sweep file: W&B's distributions, their fields, their ends, and draws from them.

https://docs.wandb.ai/models/sweeps/sweep-config-keys has the names; this file has what they mean.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from lit_gen.core.errors import UserError, nearest

_RANGE = ("min", "max")
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (_RANGE, ()),
    "uniform": (_RANGE, ()),
    "q_uniform": (_RANGE, ("q",)),
    "log_uniform_values": (_RANGE, ()),
    "q_log_uniform_values": (_RANGE, ("q",)),
    "inv_log_uniform_values": (_RANGE, ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
    "beta": ((), ("a", "b")),
    "q_beta": ((), ("a", "b", "q")),
}
"""The fields that each distribution must have, and those that it may have."""
_OF_EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")
"""W&B's distributions whose limits are exponents of e; each has a twin of the name with ``_values``."""
FIELDS = sorted({"distribution", *(f for needed, others in DISTRIBUTIONS.values() for f in (*needed, *others))})
_DEFAULTS = {"mu": 0.0, "sigma": 1.0, "q": 1.0, "a": 1.0, "b": 1.0}
_NO_NULL = "which W&B hands to a trial as the text None; another value is expected, or the option in the config"
_TAILS = (0.02, 0.98)  # the quantiles that stand for the ends of a distribution without ends


@dataclass
class Parameter:
    """A parameter of a sweep, checked.

    Attributes:
        name: the option of the command line, without its dashes.
        distribution: one of `DISTRIBUTIONS`.
        fields: what the file says of it, defaults filled in.
    """

    name: str
    distribution: str
    fields: dict[str, Any]

    def grid(self) -> list[Any] | None:
        """Its values in a grid; None if it has too many."""
        match self.distribution:
            case "constant":
                return [self.fields["value"]]
            case "categorical":
                return list(self.fields["values"])
            case "int_uniform":
                return list(range(self.fields["min"], self.fields["max"] + 1))
            case "q_uniform":
                low, high, q = (self.fields[f] for f in (*_RANGE, "q"))
                return [low + i * q for i in range(math.ceil((high - low) / q))]
        return None

    def ends(self) -> list[Any]:
        """Each value of a list; the two ends of a range, or two extreme values if it has no ends."""
        if "values" in self.fields:
            return list(self.fields["values"])
        if "value" in self.fields:
            return [self.fields["value"]]
        shares = (0.0, 1.0) if "min" in self.fields else _TAILS
        return [self._quantile(share) for share in shares]

    def draw(self, generator: np.random.Generator) -> Any:
        """A value drawn at random."""
        if "value" in self.fields:
            return self.fields["value"]
        if "values" in self.fields:
            values = self.fields["values"]
            return values[int(generator.choice(len(values), p=self.fields.get("probabilities")))]
        if self.distribution == "int_uniform":
            return int(generator.integers(self.fields["min"], self.fields["max"], endpoint=True))
        if self.distribution.endswith("beta"):
            return self._quantized(float(generator.beta(self.fields["a"], self.fields["b"])))
        return self._quantile(float(generator.uniform(1e-9, 1)))

    def _quantile(self, share: float) -> Any:
        """The value below which a share of the draws lies; for beta, which has two ends, a value near them."""
        kind, at = self.distribution.removeprefix("q_"), self.fields
        if kind.endswith("normal"):
            value = NormalDist(at["mu"], at["sigma"]).inv_cdf(share) if at["sigma"] else at["mu"]
            return self._quantized(math.exp(value) if kind == "log_normal" else value)
        if kind == "beta":
            return self._quantized(share)
        low, high = at["min"], at["max"]
        if share in (0, 1) and kind in ("int_uniform", "uniform", "log_uniform_values", "inv_log_uniform_values"):
            return self._quantized(low if share == 0 else high)  # as it stands in the file
        if kind == "uniform":
            return self._quantized(low + (high - low) * share)
        return self._quantized(math.exp(math.log(low) + (math.log(high) - math.log(low)) * share))

    def _quantized(self, value: Any) -> Any:
        q = self.fields.get("q")
        return value if q is None else round(value / q) * q


def parameter(name: str, spec: Any, method: str) -> Parameter:
    """Check one entry of ``parameters``.

    Args:
        name: its key.
        spec: its value.
        method: of the sweep.

    Raises:
        UserError: for a field or a number that does not fit.
    """
    at = f"parameters.{name}"
    if not isinstance(spec, dict):
        raise UserError(f"{at}: {spec!r} was found, fields such as min and max, or value: {spec!r}, are expected")
    if "parameters" in spec:
        inner = next(iter(spec["parameters"] or {"NAME": None}))
        raise UserError(f"{at}: nested parameters reach the command line as one text; write {name}.{inner} instead")
    if unknown := next((field for field in spec if field not in FIELDS), None):
        raise UserError(f"{at}.{unknown} is no field{nearest(str(unknown), FIELDS)} (expected {', '.join(FIELDS)})")
    distribution = spec.get("distribution", _implied(spec))
    if distribution in _OF_EXPONENTS:
        raise UserError(f"{at}.distribution: {_exponents(distribution, spec)}")
    if not isinstance(distribution, str) or distribution not in DISTRIBUTIONS:
        raise UserError(
            f"{at}.distribution: {distribution!r} was found{nearest(str(distribution), DISTRIBUTIONS)} "
            f"(expected one of {', '.join(DISTRIBUTIONS)})"
        )
    needed, others = DISTRIBUTIONS[distribution]
    fields = {field: value for field, value in spec.items() if field != "distribution"}
    if missing := [field for field in needed if field not in fields]:
        raise UserError(f"{at}: {' and '.join(missing)} must be given for the distribution {distribution}")
    if superfluous := [field for field in fields if field not in (*needed, *others)]:
        accepted = ", ".join((*needed, *others))
        raise UserError(f"{at}.{superfluous[0]} was found, but the distribution {distribution} takes only {accepted}")
    fields = {field: _DEFAULTS[field] for field in others} | fields
    _check_list(at, fields)
    _check_numbers(at, distribution, fields)
    found = Parameter(name, distribution, fields)
    try:
        found.ends()
    except OverflowError:
        raise UserError(f"{at}: q {fields['q']} was found, too small for the other numbers") from None
    if method == "grid" and found.grid() is None:
        hint = "values, or a distribution of whole numbers or steps (int_uniform, q_uniform)"
        raise UserError(f"{at}: a grid has no room for the distribution {distribution}; {hint} is expected")
    return found


def _exponents(distribution: str, spec: dict[str, Any]) -> str:
    """What to write in place of a distribution whose limits are exponents."""
    found = (
        f"{distribution} was found, whose min and max are exponents of e, so that a limit is easily taken for a value"
    )
    ends: list[Any] = [spec.get(end) for end in _RANGE]
    twin = f"{distribution}_values is expected"
    if not all(_is_number(end) and abs(end) < 700 for end in ends):
        return f"{found}; {twin}"
    low, high = ends
    if 0 < low < high <= 1:  # rates, which nobody means as exponents
        return f"{found}; {twin}, with min {low:g} and max {high:g}"
    return f"{found}; {twin}, with min {math.exp(low):.3g} and max {math.exp(high):.3g}"


def _implied(spec: dict[str, Any]) -> str:
    """The distribution that W&B takes if none is named."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    return "int_uniform" if all(type(spec.get(end)) is int for end in _RANGE) else "uniform"


def _check_list(at: str, fields: dict[str, Any]) -> None:
    """Values and their probabilities."""
    if "value" in fields and fields["value"] is None:
        raise UserError(f"{at}.value: null was found, {_NO_NULL}")
    if "values" not in fields:
        return
    values = fields["values"]
    if isinstance(values, list) and None in values:
        raise UserError(f"{at}.values: null was found, {_NO_NULL}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{at}.values: {values!r} was found, a list of at least one value is expected")
    if twice := [value for i, value in enumerate(values) if str(value) in map(str, values[:i])]:
        raise UserError(f"{at}.values: {twice[0]!r} stands there twice")
    if "probabilities" not in fields:
        return
    shares = fields["probabilities"]
    if not isinstance(shares, list) or not all(_is_number(share) and share >= 0 for share in shares):
        raise UserError(f"{at}.probabilities: {shares!r} was found, a list of numbers of at least 0 is expected")
    if len(shares) != len(values):
        raise UserError(f"{at}.probabilities: {len(shares)} were found, {len(values)} are expected, one for each value")
    if not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise UserError(f"{at}.probabilities: their sum is {sum(shares):g}, 1 is expected")


def _check_numbers(at: str, distribution: str, fields: dict[str, Any]) -> None:
    """Kind, sign and order of the numbers."""
    whole = distribution == "int_uniform"
    for field in (f for f in fields if f not in ("value", "values", "probabilities")):
        value, kind = fields[field], "a whole number" if whole else "a number"
        if isinstance(value, str) and _as_number(value) is not None:
            raise UserError(f"{at}.{field}: YAML reads {value} as text; write {_as_number(value):.1e}, with a point")
        if not _is_number(value) or (whole and not isinstance(value, int)):
            raise UserError(f"{at}.{field}: {value!r} was found, {kind} is expected")
        if whole and not -(2**63) <= value < 2**63:
            raise UserError(f"{at}.{field}: {value} was found, a number of 64 bits is expected")
        if (field in ("q", "a", "b") and value <= 0) or (field == "sigma" and value < 0):
            raise UserError(f"{at}.{field}: {value} was found, a number above 0 is expected")
    if distribution.endswith("log_normal") and fields["mu"] + 9 * fields["sigma"] > 700:  # beyond every draw
        raise UserError(
            f"{at}: the distribution {distribution} takes mu and sigma of the natural logarithm, "
            f"{fields['mu']} and {fields['sigma']} were found"
        )
    if "min" not in fields:
        return
    low, high = fields["min"], fields["max"]
    if low >= high:
        raise UserError(f"{at}: min {low} and max {high} were found, a smaller min is expected")
    if distribution.endswith("_values") and low <= 0:
        raise UserError(f"{at}.min: {low} was found, a number above 0 is expected for the distribution {distribution}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e308 < value < 1e308


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
