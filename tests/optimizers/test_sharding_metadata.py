"""What says how parameters are sharded says the same of every optimizer's state, axis for axis.

A copy of a parameter in the state has the parameter's axes last; axes in front of them (hidden
units) are never split. Adam's state, which has none in front, is the reference for the rest.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizer_cases import CASES, assert_close, every_optimizer, fresh

from l2ljax.optimizers import lstm, state_shardings

MESH = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
SHAPE = (6, 8)
NAMES = ("model", None)


def expected(ndim):
    """The parameter's names behind those of the axes in front."""
    return (*[None] * (ndim - 2), *NAMES)


def boxed(seed, names=NAMES):
    """A matrix in a box of flax.linen, and a vector in none."""
    normal = np.random.default_rng(seed).normal
    kernel = nn.Partitioned(jnp.float32(normal(size=SHAPE)), names=names)
    return {"kernel": kernel, "bias": jnp.float32(normal(size=8))}


def is_box(node):
    return isinstance(node, nn.Partitioned)


@every_optimizer
def test_boxes_of_linen_name_the_parameters_axes(optimizer):
    """Of every matrix in the state, before and after an update; so `nn.get_sharding` is right."""
    tx = fresh(optimizer)
    state = tx.init(boxed(0))
    _, after = jax.jit(tx.update)(boxed(1), state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    boxes = [
        box
        for box in jax.tree.leaves(state, is_leaf=is_box)
        if is_box(box) and not isinstance(box.value, optax.MaskedNode)
    ]
    stateless = optimizer is CASES["lstm-no-layer"]
    assert len(boxes) >= (0 if stateless else 1)  # RMSprop has one
    for box in boxes:
        # An axis of length 1, of a mean over the parameter's own, cannot be split.
        kept = [n != 1 for n in box.value.shape]
        names = tuple(n if k else None for n, k in zip(expected(box.value.ndim), kept, strict=True))
        assert box.names == names
        assert nn.get_sharding(box, MESH) == NamedSharding(MESH, P(*names))


@every_optimizer
def test_boxes_change_no_number(optimizer):
    """Two updates of boxed parameters are those of the same without boxes."""
    tx = fresh(optimizer)
    state, plain_state = tx.init(boxed(0)), tx.init(nn.unbox(boxed(0)))
    for seed in (1, 2):
        updates, state = tx.update(boxed(seed), state)
        plain, plain_state = tx.update(nn.unbox(boxed(seed)), plain_state)
        assert is_box(updates["kernel"])
        assert updates["kernel"].names == NAMES
        assert_close(nn.unbox(updates), plain)


def test_logical_names_of_axes_move_too():
    """Boxes whose names are mapped to a mesh's by rules, and those without a name."""
    logical = nn.LogicallyPartitioned(jnp.ones(SHAPE), names=("embed", "mlp"))
    state = fresh(lstm((3,))).init({"w": logical, "b": nn.Partitioned(jnp.ones(8), names=(None,))})
    specs = nn.get_partition_spec(state).carry[0].cell
    rules = nn.logical_to_mesh(specs, (("embed", "model"), ("mlp", None)))
    assert rules == {"w": P(None, "model", None), "b": P(None, None)}


@pytest.mark.parametrize("hidden", [1, 3])
def test_nnx_variables_name_the_parameters_axes(hidden):
    """In `nnx.Optimizer`, which shards state as metadata says; steps go on as without."""
    tx = fresh(lstm((hidden,)))

    def steps(**metadata):
        kernel = nnx.with_metadata(nnx.initializers.lecun_normal(), **metadata)
        model = nnx.Linear(*SHAPE, use_bias=False, rngs=nnx.Rngs(0), kernel_init=kernel)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(2):
            gradients = nnx.grad(lambda m: jnp.sum(m(jnp.ones((2, 6))) ** 2))(model)
            optimizer.update(model, gradients)
        return optimizer, np.asarray(model.kernel[...])

    with jax.set_mesh(MESH):
        for kinds in ({"out_sharding": NAMES}, {"optimizer_sharding": NAMES}):
            optimizer, kernel = steps(**kinds)
            variables = [
                leaf
                for leaf in jax.tree.leaves(
                    nnx.state(optimizer), is_leaf=lambda n: isinstance(n, nnx.Variable)
                )
                if leaf.get_value().ndim == 3
            ]
            assert len(variables) == 2
            for variable in variables:
                assert variable.get_metadata()["out_sharding"] == expected(3)
    np.testing.assert_allclose(kernel, steps()[1], rtol=1e-6)


SPECS = {"matrix": P("model"), "vector": P(None), "scalar": P()}
PARAMS = {"matrix": jnp.ones(SHAPE), "vector": jnp.ones(8), "scalar": jnp.ones(())}


@pytest.mark.parametrize("kind", ["spec", "sharding"])
@every_optimizer
def test_state_shardings_put_nothing_on_the_axes_in_front(optimizer, kind):
    """In a chain with Adam too, whose part is what `optax.tree.map_params` says."""
    tx = optax.chain(fresh(optimizer), optax.adam(1.0))
    wrap = (lambda spec: spec) if kind == "spec" else lambda spec: NamedSharding(MESH, spec)
    shardings = jax.tree.map(wrap, SPECS, is_leaf=lambda n: isinstance(n, P))
    found = state_shardings(tx, PARAMS, shardings, wrap(P()))
    state = tx.init(PARAMS)
    if kind == "sharding":
        placed = jax.device_put(state, found)
        assert_close(placed, state)
        jax.jit(tx.init, out_shardings=found)(PARAMS)
    adam = optax.tree.map_params(
        optax.adam(1.0),
        lambda _, s: s,
        state[1],
        shardings,
        transform_non_params=lambda _: wrap(P()),
    )
    leaf = lambda node: isinstance(node, P)  # noqa: E731
    assert jax.tree.leaves(found[1], is_leaf=leaf) == jax.tree.leaves(adam, is_leaf=leaf)
    for array, sharding in zip(
        jax.tree.leaves(state[0]), jax.tree.leaves(found[0], is_leaf=leaf), strict=True
    ):
        spec = sharding if kind == "spec" else sharding.spec
        split = "model" in tuple(spec)
        assert split == (array.ndim >= 2 and array.shape[-2] == SHAPE[0])
        assert not split or tuple(spec).index("model") == array.ndim - 2


def test_sums_over_axes_are_not_sharded():
    """Adafactor's, of rows and columns; where a parameter is not factored they are as it."""
    tx = optax.scale_by_factored_rms()
    params = {"w": jnp.ones((256, 256)), "b": jnp.ones(4)}
    found = state_shardings(tx, params, {"w": P("model"), "b": P("model")}, P())
    assert found.v_row["w"] == found.v_col["w"] == P()
    assert found.v["b"] == P("model")
    placed = jax.tree.map(lambda leaf, spec: len(spec) <= leaf.ndim, tx.init(params), found)
    assert all(jax.tree.leaves(placed))


def test_shardings_of_another_kind_are_refused():
    """With what was given."""
    with pytest.raises(TypeError, match="PartitionSpecs or NamedShardings, got 'model'"):
        state_shardings(optax.adam(1.0), {"w": jnp.ones(3)}, {"w": "model"}, P())
