"""What Optax's transformations need to be meta-optimizers: extra arguments, and a second start."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import MetaParams, PyTree

Estimate = Callable[[MetaParams], tuple[jax.Array | float, MetaParams]]


def update_by(
    meta_optimizer: optax.GradientTransformation,
    meta_grads: MetaParams,
    opt_state: PyTree,
    meta_params: MetaParams,
    estimate: Estimate,
    meta_loss: jax.Array | float = 0.0,
) -> tuple[MetaParams, PyTree]:
    """One update of `meta_optimizer`, with each extra argument of Optax's that it takes.

    These are `value` (the meta-loss), `grad` (the meta-gradient), `value_fn` and `obj_fn`
    (meta-parameters -> the meta-loss of the same window of the same optimizees; its derivative is
    the meta-gradient) and `grad_fn` (meta-parameters -> that). Line searches (`optax.lbfgs()`,
    `optax.scale_by_backtracking_linesearch`), `optax.polyak_sgd` and their kin work so.

    Args:
        meta_optimizer: any Optax transformation.
        meta_grads, opt_state, meta_params: as its `update` takes them.
        estimate: meta-parameters -> meta-loss and meta-gradient, for the functions above.
        meta_loss: scalar, at `meta_params`.

    Raises:
        TypeError: naming an extra argument that it wants and that there is none of.
    """
    loss = as_function(estimate)
    offered = {"value": meta_loss, "grad": meta_grads, "value_fn": loss}
    rarer = {"obj_fn": loss, "grad_fn": lambda params, *_: estimate(params)[1]}
    taken = inspect.signature(meta_optimizer.update).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        offered = {n: given for n, given in {**offered, **rarer}.items() if n in list(taken)[3:]}
    while True:
        try:
            return meta_optimizer.update(meta_grads, opt_state, meta_params, **offered)
        except (TypeError, ValueError) as error:
            # A line search refuses what it does not know, so these are for those who ask for them.
            missing = {n: given for n, given in rarer.items() if f"{n} must be" in str(error)}
            if not missing.keys() - offered.keys():
                _refuse_unknown(error)
                raise
            offered |= missing


def _refuse_unknown(error: Exception) -> None:
    if missing := re.search(r"missing \d+ required keyword-only arguments?: (.*)", str(error)):
        raise TypeError(
            f"The meta_optimizer wants the extra argument {missing[1]}, which meta_train does not "
            "have; it gives value, grad, value_fn, obj_fn and grad_fn. Wrap it in a "
            "transformation that fills the argument in."
        ) from error


def as_function(estimate: Estimate) -> Callable[[MetaParams], Any]:
    """The meta-loss as a function whose derivative is the estimated meta-gradient.

    Example:
        >>> loss = as_function(lambda phi: (phi**2, 10.0 * phi))
        >>> [float(x) for x in jax.value_and_grad(loss)(3.0)]
        [9.0, 30.0]
    """

    @jax.custom_jvp
    def meta_loss(meta_params):
        return estimate(meta_params)[0]

    @meta_loss.defjvp
    def derivative(primals, tangents):
        (meta_params,), (tangent,) = primals, tangents
        loss, grads = estimate(meta_params)
        slopes = jax.tree.map(lambda g, t: jnp.sum(g * t), grads, tangent)
        total = jax.tree.reduce(jnp.add, slopes, jnp.zeros_like(loss))
        return loss, jnp.asarray(total, jnp.result_type(loss))

    return meta_loss


SCHEDULED = {
    optax.ScaleByScheduleState: ("count",),
    optax.AddNoiseState: ("count", "rng_key"),
    optax.InjectStatefulHyperparamsState: ("count", "hyperparams", "hyperparams_states"),
    optax.MultiStepsState: ("gradient_step",),
    optax.ConditionallyTransformState: ("step",),
    optax.ConditionallyMaskState: ("step",),
}
"""Fields of Optax's states that say how far a schedule is; they outlast a restart."""

# The state of a scheduled weight decay has no public name, and older Optax knows no such schedule.
# Its shape alone, as an array would start JAX's devices when this is imported.
_decay = jax.eval_shape(optax.add_decayed_weights(lambda count: 0.0).init, ())
if hasattr(_decay, "count"):
    SCHEDULED[type(_decay)] = ("count",)


def restart(
    meta_optimizer: optax.GradientTransformation, meta_params: MetaParams, opt_state: PyTree
) -> PyTree:
    """A fresh state of `meta_optimizer`, in which the schedules of `opt_state` go on.

    A number injected by `optax.inject_hyperparams` stays what it has been set to.
    """
    return _go_on(meta_optimizer.init(meta_params), opt_state)


def _go_on(new: PyTree, old: PyTree) -> PyTree:
    def is_scheduled(node: Any) -> bool:
        return type(node) in SCHEDULED

    def merge(new, old):
        kinds = SCHEDULED.get(type(new))
        if kinds is None:
            return new
        kept = {name: getattr(old, name) for name in kinds}
        rest = {
            name: _go_on(getattr(new, name), getattr(old, name))
            for name in new._fields
            if name not in kinds
        }
        return new._replace(**rest, **kept)

    return jax.tree.map(merge, new, old, is_leaf=is_scheduled)
