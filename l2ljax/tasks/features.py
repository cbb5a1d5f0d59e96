"""What turns a picture into features: a pure function, its weights, and names for its layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from l2ljax.base import PyTree


class Extractor(NamedTuple):
    """A feature extractor, with named places (taps) where features are read.

    Attributes:
        params: its weights, a pytree of arrays.
        apply: `(params, image, taps)` -> features by tap, each float `[height, width, channels]`;
            `image` is float `[height, width, 3]`, 0 black and 1 white. Pure.
        taps: names of all taps, from shallow to deep.
        content_tap: whose features tell a picture's content, if not said otherwise.
        style_taps: whose features tell a picture's style, if not said otherwise.

    Example:
        Colours alone, without weights:

        >>> import jax.numpy as jnp
        >>> colours = Extractor((), lambda params, image, taps: {"rgb": image}, ("rgb",), "rgb", ())
        >>> colours.apply(colours.params, jnp.zeros((4, 5, 3)), ("rgb",))["rgb"].shape
        (4, 5, 3)
    """

    params: PyTree
    apply: Callable[[PyTree, jax.Array, Sequence[str]], Mapping[str, jax.Array]]
    taps: tuple[str, ...]
    content_tap: str
    style_taps: tuple[str, ...]

    def __call__(self, image: jax.Array, taps: Sequence[str]) -> dict[str, Any]:
        """Features of one picture, with the extractor's own weights."""
        return dict(self.apply(self.params, image, taps))
