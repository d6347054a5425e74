"""Checks of options: which values pass, and each sentence to the letter."""

import math

import pytest

from lit_gen.core.errors import UserError
from lit_gen.core.options import above, at_least, expect, not_negative, one_of, whole_number, within


def sentence(check, *arguments, **options):
    with pytest.raises(UserError) as error:
        check(*arguments, **options)
    return str(error.value)


def test_a_value_that_is_good_passes_and_another_is_shown_as_python_writes_it():
    expect(True, "data.x", 3, "nothing")
    assert sentence(expect, False, "data.x", "3", "a number") == "data.x: '3' was found, a number is expected"
    assert sentence(expect, False, "x", None, "a name", "; help") == "x: null was found, a name is expected; help"


@pytest.mark.parametrize("least", [0, 1, 256])
def test_a_whole_number_has_a_least_value(least):
    at_least(least, "data.", count=least, other=least + 1)
    told = f"data.count: {least - 1} was found, a whole number of at least {least} is expected"
    assert sentence(at_least, least, "data.", fine=least, count=least - 1, worse=least - 2) == told
    assert whole_number(least) == f"a whole number of at least {least}"


def test_a_whole_number_of_another_type_passes_where_its_size_does():
    at_least(1, count=True, other=1.5, unset=None)  # the command line has refused those already
    assert sentence(at_least, 1, "--", n=False) == "--n: False was found, a whole number of at least 1 is expected"
    assert sentence(at_least, 1, n=0.5) == "n: 0.5 was found, a whole number of at least 1 is expected"
    assert sentence(at_least, 1, n=math.nan) == "n: nan was found, a whole number of at least 1 is expected"


def test_a_number_above_another():
    above(0, "model.", decay=1e-300, large=math.inf, unset=None)
    assert sentence(above, 0, "model.", x=0.0) == "model.x: 0.0 was found, a number above 0 is expected"
    assert sentence(above, 1, x=1) == "x: 1 was found, a number above 1 is expected"
    assert sentence(above, 0, x=math.nan) == "x: nan was found, a number above 0 is expected"
    assert sentence(above, 0, x=-1, null=True) == "x: -1 was found, a number above 0 or null is expected"


def test_a_finite_number_above_another():
    above(0, finite=True, x=1e300, unset=None)
    assert sentence(above, 0, finite=True, x=math.inf) == "x: inf was found, a number above 0 is expected"
    assert sentence(above, 0, finite=True, x=math.nan) == "x: nan was found, a number above 0 is expected"


@pytest.mark.parametrize("value", [-1, -1e-9, math.inf, math.nan])
def test_a_number_that_is_not_negative(value):
    not_negative("model.", weight=0, gamma=0.5, unset=None)
    told = f"model.weight: {value} was found, a number of at least 0 is expected"
    assert sentence(not_negative, "model.", weight=value) == told


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, math.nan])
@pytest.mark.parametrize("interval", ["[0, 1]", "[0, 1)"])
def test_a_number_within_an_interval(interval, value):
    within(interval, "model.", p=0, q=0.999, unset=None)
    told = f"model.p: {value} was found, a number in {interval} is expected"
    assert sentence(within, interval, "model.", p=value) == told
    assert sentence(within, interval, "model.", null=True, p=value) == told.replace(" is", " or null is")


def test_the_end_of_an_interval_is_in_it_where_it_is_closed():
    within("[0, 1]", p=1, q=1.0)
    assert sentence(within, "[0, 1)", dropout=1.0) == "dropout: 1.0 was found, a number in [0, 1) is expected"


def test_one_of_some_names():
    one_of(("relu", "tanh"), "model.", activation="tanh", other="relu")
    told = "model.activation: 'relux' was found, one of relu, tanh is expected; did you mean 'relu'?"
    assert sentence(one_of, ("relu", "tanh"), "model.", activation="relux") == told
    assert sentence(one_of, {"sum": 1, "mean": 2}, x="zzz") == "x: 'zzz' was found, one of sum, mean is expected"
    assert sentence(one_of, ["none"], x=None) == "x: null was found, one of none is expected; did you mean 'none'?"
