"""One optimizer's results on many optimizees."""

from typing import NamedTuple

import numpy as np

from l2ljax.base.words import shapes
from l2ljax.evaluation.tuning import Tuning


class Curve(NamedTuple):
    """One optimizer's results.

    Attributes:
        learning_rate: `None` if learned.
        losses: float `[num_tasks, T + 1]`.
        accuracy: share right by the final parameters, float `[num_tasks]`, where it was asked for.
        expected_loss: of the final parameters over more minibatches, float `[num_tasks]`, likewise.
        clusters: a label of each optimizee, `[num_tasks]`; those of one label are not independent
            draws (crops of one photograph). `None`: all are.
        tuning: how the learning rate was found, where it was.

    Example:
        >>> curve = Curve(learning_rate=0.1, losses=np.array([[4.0, 1.0], [8.0, 3.0]]))
        >>> float(curve.losses[:, -1].mean())  # two optimizees after one step
        2.0
    """

    learning_rate: float | None
    losses: np.ndarray
    accuracy: np.ndarray | None = None
    expected_loss: np.ndarray | None = None
    clusters: np.ndarray | None = None
    tuning: Tuning | None = None

    def __repr__(self) -> str:
        """Shapes, and the mean final loss."""
        rate = "learned" if self.learning_rate is None else f"{self.learning_rate:.4g}"
        final = float(np.mean(self.losses[:, -1]))
        return f"Curve(rate={rate}, losses={shapes(self.losses)}, mean final loss {final:.6g})"
