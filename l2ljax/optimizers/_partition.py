"""Several learned optimizers, each with its own meta-parameters, as one.

Andrychowicz et al. (2016), section 3.3, train the convolutional and the fully connected parameters
of a classifier with two LSTMs that share no weights: `partition({"conv": lstm(), "fc": lstm()},
labels)`.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.checks import check_optimizer, short
from l2ljax.optimizers.plain_labels import labels_as_plain
from l2ljax.specification import specified


@specified("partition", encode={"param_labels": ("labels", labels_as_plain)})
def partition(
    optimizers: Mapping[str, LearnedOptimizer], param_labels: PyTree | Callable[[Params], PyTree]
) -> LearnedOptimizer:
    """One learned optimizer that hands each parameter to the member with its label.

    Args:
        optimizers: label -> learned optimizer.
        param_labels: a tree of labels like the parameters (or a prefix of it), or a function that
            makes one from them, as in `optax.partition`.

    Returns:
        a `LearnedOptimizer` whose meta-parameters are `{label: the member's meta-parameters}`; it
        is coordinatewise if every member is, and its tensors are alone if every member's are.

    Raises:
        ValueError: if `optimizers` is empty, if meta-parameters lack a label, or (from the
            transformation's init and from `coordinate_groups`) if a parameter has a label that no
            member serves.

    Example:
        >>> from l2ljax.optimizers._lstm import lstm
        >>> both = partition(
        ...     {"conv": lstm(), "fc": lstm(hidden_sizes=(8,))}, {"kernel": "conv", "dense": "fc"}
        ... )
        >>> sorted(both.init(jax.random.key(0)))
        ['conv', 'fc']
    """
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise ValueError(
            "partition needs at least one learned optimizer, as a dict of label -> optimizer, got "
            f"{'an empty mapping' if optimizers == {} else short(optimizers)}."
        )
    optimizers = dict(optimizers)
    param_labels = _label_function(param_labels)
    for label, member in optimizers.items():
        check_optimizer(f"partition's member {short(label)}", member)

    def init(key: Key) -> MetaParams:
        keys = jax.random.split(key, len(optimizers))
        return {
            label: optimizers[label].init(k)
            for label, k in zip(sorted(optimizers), keys, strict=True)
        }

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        _check_labels(optimizers, meta_params)
        transforms: dict[Hashable, optax.GradientTransformation] = {
            label: member.transform(meta_params[label]) for label, member in optimizers.items()
        }
        return optax.partition(transforms, param_labels)

    def groups_of(params: Params) -> tuple[Any, ...]:
        # Optax refuses a label without a member in init; the same refusal, where no init has run.
        optax.partition(dict.fromkeys(optimizers, optax.identity()), param_labels).init(params)
        labels = param_labels(params)
        label_of_leaf = jax.tree.leaves(
            jax.tree.map(lambda label, sub: jax.tree.map(lambda _: label, sub), labels, params)
        )
        leaves, treedef = jax.tree.flatten(params)
        groups = []
        for label, member in optimizers.items():
            mine = [i for i, other in enumerate(label_of_leaf) if other == label]
            assert member.groups is not None
            # What `optax.partition` hands the member: the same tree, without the others' leaves.
            masked = treedef.unflatten(
                [
                    leaf if other == label else optax.MaskedNode()
                    for leaf, other in zip(leaves, label_of_leaf, strict=True)
                ]
            )
            groups += [
                group._replace(
                    leaves=tuple(mine[i] for i in group.leaves),
                    transform=_on_member(group.transform, label),
                )
                for group in member.groups(masked)
            ]
        return tuple(group for group in groups if group.leaves)

    members = optimizers.values()
    if all(member.coordinate_groups is not None for member in members):
        return LearnedOptimizer(init, transform, coordinate_groups=groups_of)
    alone = all(member.groups is not None for member in members)
    return LearnedOptimizer(init, transform, tensor_groups=groups_of if alone else None)


def _label_function(labels: PyTree | Callable[[Params], PyTree]) -> Callable[[Params], PyTree]:
    """params -> labels. A tree of labels may have a `__call__`: a module of Equinox is a tree."""
    is_leaf = jax.tree_util.all_leaves([labels])
    return labels if is_leaf and callable(labels) else lambda params: labels


def _on_member(transform: Callable[[Any], Any], label: str) -> Callable[[MetaParams], Any]:
    return lambda meta_params: transform(meta_params[label])


def _check_labels(optimizers: Mapping[str, LearnedOptimizer], meta_params: MetaParams) -> None:
    if not isinstance(meta_params, Mapping) or set(meta_params) != set(optimizers):
        given = sorted(meta_params) if isinstance(meta_params, Mapping) else type(meta_params)
        raise ValueError(
            f"meta_params of this partition must be a dict with the keys {sorted(optimizers)}, "
            f"got {given}; use init of the same partition."
        )
