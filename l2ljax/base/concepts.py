"""The three concepts of l2ljax: a learned optimizer, a task, a gradient estimator.

All three are values made of pure functions, so they can be passed through `jax.jit`, vmapped, and
written by a user in a few lines. Vocabulary and symbols follow Andrychowicz et al. (2016),
"Learning to learn by gradient descent by gradient descent", arXiv:1606.04474.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from l2ljax.base.words import function_name, shapes

PyTree = Any
MetaParams = Any  # phi: the parameters of a learned optimizer, any pytree of float arrays
Params = Any  # theta: the parameters of an optimizee, any pytree of float arrays
Instance = Any  # one draw f ~ p(f)
Batch = Any  # what the loss sees in one inner step
Key = jax.Array  # a JAX random key


class CoordinateGroup(NamedTuple):
    """Parameters that one per-coordinate rule serves.

    Attributes:
        leaves: positions of those parameters in `jax.tree.leaves(params)`.
        transform: meta-parameters of the whole learned optimizer -> the transformation of this
            group. It must treat every coordinate alike and alone, must not read `params`, and
            must keep the coordinates' axes last in each state leaf that has them (so that
            `optax.tree.map_params` finds those leaves and their trailing axes are the parameter's).

    Example:
        >>> import jax.numpy as jnp
        >>> group = CoordinateGroup((0, 1), lambda log_rate: optax.scale(-jnp.exp(log_rate)))
        >>> tx = group.transform(jnp.log(0.5))
        >>> gradients = {"bias": jnp.ones(2), "kernel": jnp.ones((3, 2))}
        >>> updates, _ = tx.update(gradients, tx.init(gradients))
        >>> updates["bias"].tolist()
        [-0.5, -0.5]
    """

    leaves: tuple[int, ...]
    transform: Callable[[MetaParams], optax.GradientTransformation]


class TensorGroup(NamedTuple):
    """Parameters that one per-tensor rule serves: the coordinates of a tensor may meet in it.

    Attributes:
        leaves: positions of those parameters in `jax.tree.leaves(params)`.
        transform: as of `CoordinateGroup`, but it is given whole tensors, one at a time, and may
            reduce over a tensor and read its `params`; its state may have any shapes. It must not
            read `value` or another extra argument.

    Example:
        Steps of one length, whatever the gradient's:

        >>> import jax.numpy as jnp
        >>> def normalised(length):
        ...     return optax.stateless(lambda g, _: -length * g / jnp.linalg.norm(g))
        >>> tx = TensorGroup((0,), normalised).transform(0.5)
        >>> update, _ = tx.update(jnp.array([0.0, 4.0]), tx.init(jnp.ones(2)))
        >>> float(update[1])
        -0.5
    """

    leaves: tuple[int, ...]
    transform: Callable[[MetaParams], optax.GradientTransformation]


Group = CoordinateGroup | TensorGroup


class _Fields(NamedTuple):
    """The fields of a `LearnedOptimizer`."""

    init: Callable[[Key], MetaParams]
    transform: Callable[[MetaParams], optax.GradientTransformation]
    coordinate_groups: Callable[[Params], tuple[CoordinateGroup, ...]] | None = None
    specification: Mapping[str, Any] | None = None
    tensor_groups: Callable[[Params], tuple[Group, ...]] | None = None


class LearnedOptimizer(_Fields):
    """A function from meta-parameters to an Optax transformation [g, with parameters phi].

    Attributes:
        init: random key -> fresh meta-parameters.
        transform: meta-parameters -> an Optax transformation. Its updates are additive:
            `params + updates`, with no further sign or learning rate.
        coordinate_groups: for an optimizer that treats coordinates alone, the groups of parameters
            that share one rule, as a function of one optimizee's `params` (of which paths, shapes
            and dtypes may be read). Every leaf must be in exactly one group. `None`
            says that coordinates may influence one another; gradient estimators then make no use of
            their independence.
        specification: plain data that rebuilds it, `{"name": ..., argument: ...}`, as weights files
            and configurations hold it; builders fill it in (`l2ljax.specified`). `None`: it was
            made of functions that have no name, and cannot be saved.
        tensor_groups: for an optimizer without `coordinate_groups` that treats tensors alone, its
            groups of parameters, as there; each a `TensorGroup` or a `CoordinateGroup`. `None`
            says that tensors may influence one another too.

    Example:
        A learned learning rate, one meta-parameter in all:

        >>> import jax.numpy as jnp
        >>> learned_sgd = LearnedOptimizer(
        ...     init=lambda key: jnp.log(0.1),
        ...     transform=lambda log_rate: optax.with_extra_args_support(
        ...         optax.scale(-jnp.exp(log_rate))
        ...     ),
        ... )
        >>> tx = learned_sgd.transform(learned_sgd.init(jax.random.key(0)))
        >>> updates, _ = tx.update(jnp.ones(3), tx.init(jnp.zeros(3)))
        >>> [round(float(u), 3) for u in updates]
        [-0.1, -0.1, -0.1]
    """

    __slots__ = ()

    def _replace(self, **changes: Any) -> "LearnedOptimizer":  # pyright: ignore
        """As NamedTuples have it; groups go with the transform that they were made for.

        Where `transform` is replaced and the groups are not, the result has none: the old ones know
        nothing of the new rule. `l2ljax.wrap` keeps them where that is right.
        """
        if "transform" in changes:
            changes = {"coordinate_groups": None, "tensor_groups": None} | changes
        return super()._replace(**changes)

    def __repr__(self) -> str:
        """Its specification, or the names of its functions."""
        if self.specification is not None:
            return f"LearnedOptimizer({dict(self.specification)})"
        init, transform = function_name(self.init), function_name(self.transform)
        return f"LearnedOptimizer(init={init}, transform={transform})"

    @property
    def groups(self) -> Callable[[Params], tuple[Group, ...]] | None:
        """What it declares to be independent: `coordinate_groups`, else `tensor_groups`."""
        return self.tensor_groups if self.coordinate_groups is None else self.coordinate_groups


def _no_instance(data: PyTree, key: Key) -> Instance:
    del data, key
    return ()


def _instance_as_batch(data: PyTree, instance: Instance, key: Key) -> Batch:
    del data, key
    return instance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A distribution over optimizees [p(f)].

    A task is a pytree: its leaves are the arrays in `data`, its functions are static. Pass it
    to a jitted function as an argument, and a data set is never baked into the program.

    Attributes:
        init: (instance, key) -> params [theta_0], a pytree of float arrays.
        loss: (params, batch) -> scalar float [f(theta)].
        sample: (data, key) -> instance, one draw f ~ p(f). Default: the empty tuple.
        batch: (data, instance, key) -> what one inner step sees. Default: the instance.
        data: arrays shared by all instances, never copied by vmap. Default: the empty tuple.
        init_state: (instance, key) -> a pytree of arrays that the loss changes from step to step
            and no optimizer trains, such as the running averages of a normalisation. The key is
            that of `init`. Default: none.

    **State.** With `init_state`, `loss` is `(params, (batch, state)) -> (scalar, next state)`. The
    state travels inside the optimizee's `instance` (as a `Running`), so that functions that carry
    optimizees need not know of it. For the gradient of an inner step, and for the meta-gradient, it
    is a constant (except under `second_derivatives=True`, which differentiates through it too). The
    recorded backward pass and evolution strategies do not serve such tasks; "auto" takes the scan.

    **Data that do not fit the device.** `data` may be empty and `batch` call the host: with
    `load(number) -> NumPy arrays`, ::

        batch=lambda data, instance, key: jax.pure_callback(
            load, jax.ShapeDtypeStruct((128, 784), jnp.float32),
            jax.random.bits(key), vmap_method="sequential",
        )

    reads a minibatch for each inner step while the device runs. `load` must give the same arrays
    for the same number (JAX may call it more than once), so it draws from the number it is given:
    `np.random.default_rng(int(number))`.

    Example:
        >>> import jax.numpy as jnp
        >>> parabola = Task(
        ...     init=lambda instance, key: jax.random.normal(key),
        ...     loss=lambda params, batch: params**2,
        ... )
        >>> float(parabola.loss(jnp.array(3.0), ()))
        9.0
    """

    init: Callable[[Instance, Key], Params] = dataclasses.field(metadata={"static": True})
    loss: Callable[[Params, Batch], jax.Array] = dataclasses.field(metadata={"static": True})
    sample: Callable[[PyTree, Key], Instance] = dataclasses.field(
        default=_no_instance, metadata={"static": True}
    )
    batch: Callable[[PyTree, Instance, Key], Batch] = dataclasses.field(
        default=_instance_as_batch, metadata={"static": True}
    )
    data: PyTree = ()
    init_state: Callable[[Instance, Key], PyTree] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    def __repr__(self) -> str:
        """Its functions' names, and the shapes of its data."""
        functions = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("static")
        }
        named = [f"{n}={function_name(f) if callable(f) else f!r}" for n, f in functions.items()]
        return f"Task({', '.join(named)}, data={shapes(self.data)})"


class Running(NamedTuple):
    """The instance of a running optimizee whose task has state, see `Task`.

    Attributes:
        instance: the draw f ~ p(f), as `Task.sample` made it.
        state: what `Task.init_state` made and `Task.loss` last returned.
    """

    instance: Instance
    state: PyTree


class GradientEstimator(abc.ABC):
    """A way to estimate the meta-gradient dL/dphi of a learned optimizer on a task.

    Implementations are frozen dataclasses registered as pytrees whose leaves are their task's data,
    so that an estimator crosses `jax.jit` as an argument. Both methods are pure.

    Example:
        Without optimizees: L(phi) = phi^2, and its derivative.

        >>> @jax.tree_util.register_static
        ... class Parabola(GradientEstimator):
        ...     def init(self, key, meta_params):
        ...         return ()
        ...     def estimate(self, meta_params, state, key):
        ...         return meta_params**2, 2 * meta_params, state, {}
        >>> Parabola().estimate(3.0, (), jax.random.key(0))[:2]
        (9.0, 6.0)
    """

    @abc.abstractmethod
    def init(self, key: Key, meta_params: MetaParams) -> PyTree:
        """The estimator's starting state: its running optimizees, as a pytree of arrays."""

    @abc.abstractmethod
    def estimate(
        self, meta_params: MetaParams, state: PyTree, key: Key
    ) -> tuple[jax.Array, MetaParams, PyTree, dict[str, jax.Array]]:
        """One estimate of the meta-gradient.

        Returns:
            `(meta_loss, meta_grads, state, metrics)`: a float32 scalar [L(phi)], a tree like
            `meta_params`, the next state (same shapes and dtypes as the given one), and a dict of
            arrays to log. An int32 array `diverged_at` `[num_tasks]` among them, the inner step at
            which each optimizee diverged or -1, is counted instead.
        """

    def at(self, update: int) -> "GradientEstimator":
        """The estimator of that meta-update, counted from 0, with the same state.

        `meta_train` asks for it before each; one whose program changes on the way (`curriculum`)
        answers with another value, and is compiled anew. Default: itself.
        """
        del update
        return self
