"""The best of the saved steps, by a number that is logged."""

import math
from typing import Any, Literal

from lit_gen.core.options import at_least, expect


class Ranking:
    """The best steps and their numbers, the best first.

    Args:
        monitor: the number's name; None for no ranking.
        mode: whether the smallest or the largest number is best; needed with ``monitor``, because a wrong default would
            keep the worst.
        count: how many steps are kept.

    Raises:
        UserError: for options of ``checkpoint`` that contradict each other.
    """

    def __init__(self, monitor: str | None, mode: Literal["min", "max"] | None, count: int) -> None:
        at_least(1, "checkpoint.", keep_best=count)
        if monitor is None:
            none = ": there is no checkpoint.monitor"
            expect(mode is None, "checkpoint.mode", mode, "null", none)
            expect(count == 1, "checkpoint.keep_best", count, "1, its default,", none)
        else:
            expect(mode in ("min", "max"), "checkpoint.mode", mode, "min or max", f" to rank by {monitor}")
        self.monitor, self.mode, self.count = monitor, mode, count
        self.scores: dict[int, float] = {}

    def clear(self) -> None:
        """Forget all scores: another run, or another monitor, begins."""
        self.scores = {}

    def enter(self, step: int, number: float) -> None:
        """Rank a step, if its number is finite; of equal numbers the earlier step wins."""
        scores = {s: n for s, n in self.scores.items() if s != step}
        if math.isfinite(number):
            scores[step] = number
        sign = -1 if self.mode == "max" else 1
        self.scores = dict(sorted(scores.items(), key=lambda score: (sign * score[1], score[0]))[: self.count])

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the ranking; nothing without one."""
        return {"monitor": self.monitor, "mode": self.mode, "scores": dict(self.scores)} if self.monitor else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`, unless that is a ranking by another number."""
        self.clear()
        if (state.get("monitor"), state.get("mode")) == (self.monitor, self.mode):
            for step, number in state.get("scores", {}).items():
                self.enter(step, number)
