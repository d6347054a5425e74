"""When ranks ask each other whether to stop."""

import pytest

from lit_gen.callbacks.stop import Rhythm


@pytest.mark.parametrize(
    ("asked", "following"),
    [
        ([], 1),
        ([(1, 0.001)], 9),  # quick: as often as it is allowed at most
        ([(1, 0.3)], 4),  # three in a second
        ([(1, 5.0)], 2),  # slow: each time
        ([(1, 0.3), (4, 2.7)], 5),  # slower now
        ([(1, 0.3), (1, 0.0)], 4),  # twice in one step: after an evaluation
    ],
)
def test_ranks_ask_about_every_second(asked, following):
    rhythm = Rhythm(0, at_most=8)
    for count, seconds in asked:
        rhythm.asked(count, seconds)
    assert next(count for count in range(20) if rhythm.due(count)) == following
