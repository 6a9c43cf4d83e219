"""`DiversitySelector`: the selection engine as an estimator of scikit-learn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sft_diversity.core import incidence as incidences
from sft_diversity.core import vectors
from sft_diversity.core.errors import SftdivError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Points, Rows
from sft_diversity.core.neighbours import engine
from sft_diversity.selection.config import MIN_TOKENS, Fill
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.entropy import choose_by_entropy, make_entropy_dial
from sft_diversity.selection.facility_location import (
    NEIGHBOURS,
    facility_bound,
    facility_location,
    neighbour_graph,
)
from sft_diversity.selection.k_center import k_center
from sft_diversity.selection.problem import FREE, PickLimits


class DiversitySelector(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Pick rows at a chosen diversity.

    Parameters
    ----------
    size : int or float
        Rows to pick; below 1 a share of them, one row at least.
    diversity : float
        Percent of the dial's range, 0 to 100; sparse data only.
    objective : {"kinds", "entropy"}
        Sparse data: kinds covered, or the entropy of the counts of the picks together.
    fill : {"draws", "balance", "uniform"}
        Objective kinds: how the pool is drawn from.
    max_per_kind : int, optional
        Objective kinds: no kind in more picks than this.
    min_tokens : int
        Objective entropy: rows with a smaller sum of counts are not picked.
    dense : {"k-center", "facility-location"}
        Dense data: what picks; rows are made unit vectors.
    random_state : int, RandomState or None
        Redraws what the pool leaves free; no part in what picks of dense data.

    Attributes
    ----------
    indices_ : int64 array, shape (size,)
        Picked rows in pick order.
    ranking_ : int64 array, shape (n_samples,)
        Of each row: 1 for the first pick, 2, …; size + 1 where it was not picked.
    result_ : dict
        What was reached, as `sftdiv select --json` says: `kinds_covered`, `k_min`, `k_max`,
        `random_percent`, …; `radius` of k-center; `objective_value` of facility location.
    n_features_in_, n_samples_fit_ : int

    Notes
    -----
    Sparse data, shape (n_samples, kinds): an entry that is not 0 is a kind held; entropy reads the
    counts. Dense data, shape (n_samples, d): embeddings. `transform` returns the picked rows of
    the data it was fitted on, in pick order; there is nothing to say of other rows.

    Time: kinds as `Dial`, k-center O(n · d · size), facility location O(n² · d). The engine is that
    of `sftdiv select`: on an incidence in the order of its corpus it picks the same rows.
    """

    def __init__(
        self,
        size: float = 0.1,
        *,
        diversity: float = 100.0,
        objective: Literal["kinds", "entropy"] = "kinds",
        fill: Fill = "draws",
        max_per_kind: int | None = None,
        min_tokens: int = MIN_TOKENS,
        dense: Literal["k-center", "facility-location"] = "k-center",
        random_state: Any = 0,
    ) -> None:
        self.size = size
        self.diversity = diversity
        self.objective = objective
        self.fill = fill
        self.max_per_kind = max_per_kind
        self.min_tokens = min_tokens
        self.dense = dense
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> DiversitySelector:
        """Pick rows of `X`, sparse or dense, shape (n_samples, n_features); `y` plays no part."""
        X = validate_data(self, X, accept_sparse="csr")
        n = X.shape[0]
        size = self.size if self.size >= 1 else max(1, round(self.size * n))
        if size != int(size) or self.size <= 0:
            raise ValueError(f"size is {self.size}; give a whole number, or a share below 1")
        with _as_value_error():
            if sp.issparse(X):
                rows, result = self._of_kinds(incidences.of_matrix(X), int(size))
            else:
                rows, result = self._of_points(vectors.unit(X), int(size))
        self.n_samples_fit_ = n
        self.indices_ = rows
        self.ranking_ = np.full(n, len(rows) + 1, np.int64)
        self.ranking_[rows] = np.arange(1, len(rows) + 1)
        self.result_ = result
        return self

    def transform(self, X: Any) -> Any:
        """Return the picked rows of the data that was fitted, in pick order."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        if X.shape[0] != self.n_samples_fit_:
            raise ValueError(
                f"X has {X.shape[0]} rows but DiversitySelector picked among "
                f"{self.n_samples_fit_}; give the data it was fitted on"
            )
        return X[self.indices_]

    def _of_kinds(self, held: Incidence, size: int) -> tuple[Rows, dict[str, Any]]:
        seed = self._seed()
        if self.objective == "entropy":
            entropy_dial = make_entropy_dial(held, size, min_tokens=self.min_tokens)
            chosen = choose_by_entropy(entropy_dial, self.diversity, seed=seed)
            return chosen.rows, chosen.figures()
        if self.objective != "kinds":
            raise ValueError(f"objective is {self.objective!r}; give kinds or entropy")
        limits = FREE if self.max_per_kind is None else PickLimits(cap=self.max_per_kind)
        dial = Dial(held, size, limits=limits)
        picked = choose_at(dial, self.diversity, fill=self.fill, seed=seed)
        return picked.rows, picked.figures()

    def _of_points(self, points: Points, size: int) -> tuple[Rows, dict[str, Any]]:
        if self.dense == "k-center":
            centres = k_center(points, size, on=engine())
            return centres.rows, {"radius": centres.radius}
        if self.dense != "facility-location":
            raise ValueError(f"dense is {self.dense!r}; give k-center or facility-location")
        graph = neighbour_graph(points, min(NEIGHBOURS, len(points)), engine())
        found = facility_location(graph, size)
        bound = facility_bound(graph, found)
        return found.rows, {"objective_value": found.value, "objective_bound": bound}

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@contextlib.contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise what is refused as scikit-learn's callers expect it."""
    try:
        yield
    except SftdivError as fault:
        raise ValueError(str(fault)) from fault
