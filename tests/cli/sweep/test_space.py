"""Parameters of a sweep: their draws, and what is implied."""

import numpy as np
import pytest
from support.sweeps import of

RANGES = {"min": 2, "max": 9}


@pytest.mark.parametrize(
    ("distribution", "fields", "ends"),
    [
        ("int_uniform", RANGES, [2, 9]),
        ("uniform", RANGES, [2, 9]),
        ("q_uniform", RANGES | {"q": 3}, [3, 9]),
        ("log_uniform_values", {"min": 0.001, "max": 10}, [0.001, 10]),
        ("inv_log_uniform_values", RANGES, [2, 9]),
        ("q_log_uniform_values", RANGES | {"q": 2}, [2, 8]),
        ("normal", {"mu": 3, "sigma": 0.5}, [1.973, 4.027]),
        ("log_normal", {}, [0.128, 7.797]),
        ("beta", {"a": 2, "b": 3}, [0.02, 0.98]),
    ],
)
def test_draws_lie_between_the_ends(distribution, fields, ends):
    found = of("x", {"distribution": distribution, **fields})
    assert found.ends() == pytest.approx(ends, abs=1e-3)
    generator = np.random.default_rng(0)
    drawn = [found.draw(generator) for _ in range(2000)]
    outside = sum(not ends[0] - 1e-9 <= x <= ends[1] + 1e-9 for x in drawn) / len(drawn)
    assert outside < (0.06 if distribution in ("normal", "log_normal", "beta") else 1e-9)
    assert min(drawn) - ends[0] < 0.15 * (ends[1] - ends[0])
    if "q" in fields:
        assert {x % fields["q"] for x in drawn} == {0}
    if distribution == "int_uniform":
        assert set(drawn) == set(range(2, 10))
    if distribution == "log_uniform_values":
        assert np.median(drawn) == pytest.approx(0.1, rel=0.3)


def test_lists_are_drawn_by_their_probabilities():
    generator = np.random.default_rng(0)
    plain, weighed = of("x", {"values": list("ab")}), of("x", {"values": list("ab"), "probabilities": [0.1, 0.9]})
    shares = [sum(p.draw(generator) == "a" for _ in range(2000)) / 2000 for p in (plain, weighed)]
    assert shares == pytest.approx([0.5, 0.1], abs=0.05)
    assert of("x", {"value": [1, 2]}).draw(generator) == [1, 2]


def test_what_is_implied_is_what_wandb_takes():
    kinds = {"min": 1, "max": 2}, {"min": 1, "max": 2.0}, {"value": 1}, {"values": [1]}
    assert [of("x", k).distribution for k in kinds] == ["int_uniform", "uniform", "constant", "categorical"]
    assert of("x", {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, "grid").grid() == [0, 0.25, 0.5, 0.75]
