"""A study as a race: its hours go, draw by draw, to the arms whose answer is still open.

Random and base are run first: they are the measure, and tell what a run costs. Then every arm has
one draw, the ends of the dials before their middles; then those get another that are open, all of
the same draw seeds as in the whole grid. Where the hours left would not bring all of them through
their draws, the better half goes on and the others wait (successive halving: Karnin, Koren &
Somekh 2013; Jamieson & Talwalkar 2016, arXiv:1502.07943); what is decided falls at any look (as in
racing: Maron & Moore 1997). Every decision follows from the records of runs: the same call goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_diversity.core.cells import RANDOM, Cell, Run
from sft_diversity.core.errors import UsageError
from sft_diversity.studies.config import StudyConfig
from sft_diversity.studies.looks import Contrast, Standing, contrast, error_at, judge

Place = tuple[str | None, int]
_FEWEST = 2  # random subsets, without which no spread is known


@dataclass(frozen=True)
class Ran:
    """What a run came to: no score where it failed; seconds as far as they are known."""

    score: float | None
    seconds: float


@dataclass
class Arm:
    """A cell without its draw, and the runs of each of its draws, one a training seed."""

    cell: Cell
    draws: list[list[Run]]
    scores: list[float] = field(default_factory=list)
    asked: int = 0

    @property
    def name(self) -> str:
        """The group of its cells."""
        return self.cell.group

    @property
    def place(self) -> Place:
        """What it is compared within."""
        return self.cell.regime, self.cell.size

    @property
    def words(self) -> str:
        """The arm as a sentence has it."""
        at = self.cell.diversity
        return self.cell.strategy + ("" if at is None else f" at {at:g} %")


Do = Callable[[Sequence[Run]], Mapping[str, Ran]]


class Race:
    """The arms of a study, what is known of them, and which are next.

    Parameters
    ----------
    study : StudyConfig
    runs : sequence of Run
        All of the grid, in its order; further training seeds of the noise cell take no part.
    draw_of : mapping of cell name to draw
        Cells of a level with the same draw count as one; see `prepare.draws_that_differ`.
    expected_s : callable
        About how long a run takes, by the clock, with the others beside it.

    Raises
    ------
    UsageError
        If some regime and size have fewer than two random subsets.
    """

    def __init__(
        self,
        study: StudyConfig,
        runs: Sequence[Run],
        draw_of: Mapping[str, int],
        expected_s: Callable[[Run], float],
    ) -> None:
        self.sure, self.budget_s = study.sure, 3600 * (study.budget or math.inf)
        self.runs, self.expected_s = runs, expected_s
        drawn: dict[str, dict[int, list[Run]]] = {}
        for run in runs:
            if run.cell and run.train_seed in study.train_seeds:
                same = drawn.setdefault(run.cell.group, {})
                own = same.setdefault(draw_of.get(run.cell.name, run.cell.seed), [])
                if not own or own[0].cell == run.cell:
                    own.append(run)
        every = [Arm(_cell(own), list(own.values())) for own in drawn.values()]
        self.rivals = {arm.place: arm for arm in every if arm.cell.strategy == RANDOM}
        self.arms = {arm.name: arm for arm in every if arm.cell.strategy != RANDOM}
        for place in {arm.place for arm in every}:
            if place not in self.rivals or len(self.rivals[place].draws) < _FEWEST:
                raise UsageError(
                    f"study: a race needs {_FEWEST} random subsets or more of every size, to "
                    "compare with; set baselines.random"
                )
        self.standing = {name: Standing(name, "untried", 0) for name in self.arms}
        self.spent_s = self._foreseen_s = 0.0
        self.rounds: list[dict[str, Any]] = []

    def run(self, do: Do, note: Callable[[Mapping[str, Any]], None]) -> None:
        """Do rounds until nothing is open or the hours are spent; `note` each as it ends."""
        first, chosen = self.steps()[0], list(self.rivals.values())
        while chosen:
            asked = first or [run for arm in chosen for run in arm.draws[arm.asked]]
            ran = do(asked)
            self._account(asked, ran)
            for arm in chosen:
                self._take(arm, ran, len(arm.draws) if first else 1)
            first, before = [], chosen
            self._look(before)
            counts = [one.status for one in self.standing.values()]
            self.rounds.append({
                "runs": [run.name for run in asked],
                "hours": round(self.spent_s / 3600, 4),
                **{status: counts.count(status) for status in dict.fromkeys(counts)},
            })  # fmt: skip
            note(self.rounds[-1])
            chosen = self.following()
        self._look([arm for arm in self.arms.values() if len(arm.draws) == 1], last=True)

    def steps(self) -> list[list[Run]]:
        """Return what is run first, the first draws of all arms, and all their further draws."""
        found = [[run for run in self.runs if run.cell is None], [], []]
        found[0] += [run for arm in self.rivals.values() for own in arm.draws for run in own]
        for arm in self.arms.values():
            found[1] += arm.draws[0]
            found[2] += [run for own in arm.draws[1:] for run in own]
        return found

    def following(self) -> list[Arm]:
        """Return the arms that get another draw: those that are open, as far as the hours go."""
        left = self.budget_s - self.spent_s
        wanted = sorted(self.wanted(), key=self._rank)
        fresh = [arm for arm in wanted if not arm.asked]
        others = wanted[len(fresh) :]
        if sum(map(self._cost, wanted)) > left:
            others = others[: -(-len(others) // 2)]
        chosen = []
        for arm in [*fresh, *others]:
            left -= self._cost(arm, 1)
            if left < 0:
                break
            chosen.append(arm)
        return chosen

    def wanted(self) -> list[Arm]:
        """Return the arms of which another draw may say something that is not known."""
        best = {name for place in self.rivals for name in self._contending(place)}
        return [
            arm
            for name, arm in self.arms.items()
            if arm.asked < len(arm.draws)
            and (self.standing[name].status in ("untried", "open") or name in best)
        ]

    def best(self, place: Place) -> tuple[Arm, list[Arm]] | None:
        """Return the best arm above random, if there is one, and those not told from it."""
        above = [arm for arm in self._of(place) if self.standing[arm.name].status == "above"]
        if not above:
            return None
        leader = max(above, key=_mean)
        rest = [arm for arm in self._of(place) if arm.scores and arm is not leader]
        return leader, [arm for arm in rest if not self._told(leader, arm)]

    def _contending(self, place: Place) -> set[str]:
        """Return the best arm and those above random that more draws may tell from it."""
        found: set[str] = set()
        for leader, rest in filter(None, [self.best(place)]):
            for arm in rest:
                between = self._between(leader, arm)
                far = between is None or between.foreseen(1 - self.sure) < 1 - self.sure
                if self.standing[arm.name].status == "above" and not far:
                    found |= {leader.name, arm.name}
        return found

    def _told(self, leader: Arm, arm: Arm) -> bool:
        between, looks = self._between(leader, arm), len(leader.draws)
        rate = error_at(len(leader.scores), looks, 1, self.sure)
        return between is not None and between.difference > 0 and between.p < rate

    def _between(self, one: Arm, other: Arm) -> Contrast | None:
        return contrast(self._drawn(one.place), self._full(one.place), one.name, other.name)

    def _look(self, changed: Sequence[Arm], last: bool = False) -> None:
        """Judge arms by their new draws; with one draw in the grid, once the others have theirs."""
        regimes = [arm.cell.regime for arm in self.arms.values()]
        for arm in changed:
            fresh = (
                len(arm.scores) > self.standing[arm.name].draws if arm.name in self.arms else False
            )
            if fresh and len(arm.draws) == 1 and not last:
                self.standing[arm.name] = Standing(arm.name, "open", 0)
            elif fresh:
                self.standing[arm.name] = judge(
                    self.standing[arm.name], self._drawn(arm.place), self._full(arm.place),
                    self.rivals[arm.place].name, regimes.count(arm.cell.regime), self.sure,
                )  # fmt: skip

    def _take(self, arm: Arm, ran: Mapping[str, Ran], draws: int) -> None:
        for own in arm.draws[arm.asked : arm.asked + draws]:
            scores = [s for run in own if (s := ran[run.name].score) is not None]
            arm.scores += [math.fsum(scores) / len(scores)] if scores else []
        arm.asked += draws

    def _account(self, asked: Sequence[Run], ran: Mapping[str, Ran]) -> None:
        self.spent_s += sum(one.seconds for one in ran.values())
        known = [run for run in asked if ran[run.name].seconds > 0]
        self._foreseen_s += sum(map(self.expected_s, known))

    def _cost(self, arm: Arm, draws: int | None = None) -> float:
        """Return about how long an arm's next draws take, as runs so far took against estimates."""
        pace = self.spent_s / self._foreseen_s if self._foreseen_s else 1.0
        end = len(arm.draws) if draws is None else arm.asked + draws
        return pace * sum(self.expected_s(run) for own in arm.draws[arm.asked : end] for run in own)

    def left_s(self) -> float:
        """Return about how long the rest of the grid would take."""
        return sum(map(self._cost, self.arms.values()))

    def _rank(self, arm: Arm) -> tuple[Any, ...]:
        """Return the order of arms: untried ones by size, ends of the dial first; then the best."""
        if arm.asked:
            return 1, -_mean(arm), arm.name
        at = arm.cell.diversity
        return 0, arm.cell.size, -1.0 if at is None else -abs(at - 50), at != 100, arm.name

    def _of(self, place: Place) -> list[Arm]:
        return [arm for arm in self.arms.values() if arm.place == place]

    def _drawn(self, place: Place) -> dict[str, list[float]]:
        return {arm.name: arm.scores for arm in [*self._of(place), self.rivals[place]]}

    def _full(self, place: Place) -> dict[str, int]:
        return {arm.name: len(arm.draws) for arm in [*self._of(place), self.rivals[place]]}


def _cell(drawn: Mapping[int, Sequence[Run]]) -> Cell:
    cell = next(iter(drawn.values()))[0].cell
    assert cell is not None
    return cell


def _mean(arm: Arm) -> float:
    return math.fsum(arm.scores) / len(arm.scores) if arm.scores else -math.inf
