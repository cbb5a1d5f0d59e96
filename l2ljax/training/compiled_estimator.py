"""An estimator's two methods, compiled and called as `meta_train` does it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import GradientEstimator, MetaParams, PyTree
from l2ljax.base.words import dtype_of, kind_of, path_name, shorten
from l2ljax.estimators.crossing import check_crossing
from l2ljax.estimators.returned import check_returned
from l2ljax.parallel import replicate
from l2ljax.training.records import check_names

NUM_ESTIMATES = 3


class Estimate(NamedTuple):
    """What `estimate` returned."""

    meta_loss: Any
    meta_gradient: Any
    state: Any
    metrics: Any


class Program:
    """An estimator's two methods, compiled anew for each of these.

    Every call is as `meta_train` makes it: an estimator for the number of the meta-update, the
    meta-parameters on all devices of its mesh.
    """

    def __init__(self, estimator: GradientEstimator):
        self.estimator = estimator
        self.mesh = getattr(estimator, "mesh", None)
        self._init = jax.jit(self._trace_init)
        self._estimate = jax.jit(self._trace_estimate)

    def start(self, meta_params: MetaParams, key: int) -> PyTree:
        arguments = replicate((jax.random.key(key), meta_params), self.mesh)
        return _compiled("init", self._init, self.estimator, *arguments)

    def estimate(self, meta_params: MetaParams, state: PyTree, place: int) -> Estimate:
        key, meta_params = replicate((jax.random.key(100 + place), meta_params), self.mesh)
        estimator = self.estimator.at(place)
        check_crossing(f"what at({place}) of this estimator returns", estimator)
        return _compiled("estimate", self._estimate, estimator, meta_params, state, key)

    def estimates(self, meta_params: MetaParams, state: PyTree) -> Iterator[Estimate]:
        for place in range(NUM_ESTIMATES):
            found = self.estimate(meta_params, state, place)
            state = found.state
            yield found

    def _trace_init(self, estimator, key, meta_params):
        state = estimator.init(key, meta_params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if dtype_of(leaf) is None:
                raise TypeError(
                    f"The state that the estimator's init() returns {kind_of(leaf)} at "
                    f"{path_name(path)}, expected an array; keep what is none in a static field."
                )
        return state

    def _trace_estimate(self, estimator, meta_params, state, key):
        returned = estimator.estimate(meta_params, state, key)
        check_returned(returned, meta_params, state)
        found = Estimate(*returned)
        check_names(found.metrics)
        if not jnp.issubdtype(dtype_of(found.meta_loss), jnp.floating):
            raise TypeError(
                f"An estimator's meta-loss must be a real float, got dtype "
                f"{dtype_of(found.meta_loss)}; return the mean of the losses."
            )
        pairs = zip(leaves_of(found.meta_gradient), jax.tree.leaves(meta_params), strict=True)
        for (name, gradient), param in pairs:
            if dtype_of(gradient) != dtype_of(param):
                raise TypeError(
                    f"The estimator's meta-gradient has dtype {dtype_of(gradient)} at {name}, "
                    f"expected {dtype_of(param)} as the meta-parameter has; convert it by astype."
                )
        return found


def _compiled(method: str, function: Any, *arguments: Any) -> Any:
    """The result, where tracing does not fail for want of a value."""
    try:
        return function(*arguments)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        reason = shorten(str(error).splitlines()[0], 160)
        raise TypeError(
            f"{method}() of this estimator cannot be compiled by jax.jit ({reason}); compute with "
            "jax.numpy, choose by jnp.where or jax.lax.cond, and keep no array outside the state."
        ) from error


def leaves_of(tree: PyTree) -> list[tuple[str, Any]]:
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def name_of(place: int) -> str:
    return f"estimate {place + 1} of {NUM_ESTIMATES}"
