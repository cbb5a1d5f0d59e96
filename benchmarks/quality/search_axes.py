"""Training tasks with tensors of more than two axes: pictures, kernels of convolutions, heads.

For `search_rule.py --axes=NAME`, which moves nothing but those tensors.
"""

from search_trial import Trial
from search_trials import DEEP, LENGTHS, PAINTED, WIDE

THICK = {
    name: (LENGTHS | WIDE)[name]
    for name in (
        *("inversion-32", "inversion-32, short", "inversion-32, middle"),
        *("digits-convnet, short", "digits-convnet 300"),
        *("bytes-transformer-16, short", "bytes-transformer-16 300"),
    )
} | {
    "neural-art-32": PAINTED._replace(weight=30.0),
    "neural-art-64-retina": Trial("neural-art-64-retina", 128, 3, 1.0, weight=30.0),
    "bytes-transformer-32x2": DEEP["bytes-transformer-32x2"],
}
"""Those with tensors of more than two axes: pictures, convolutions, a transformer's heads."""

HEADS = THICK | {
    "bytes-transformer-32x2": DEEP["bytes-transformer-32x2"]._replace(weight=6.0),
    "digits-convnet 300": LENGTHS["digits-convnet 300"]._replace(weight=0.2),
}
"""The same with a little more weight on the wide transformer, into whose heads pictures ate, and
little on what is mostly noise: it strays by more than pictures ever differ."""

CANVAS = HEADS | {
    "neural-art-32": PAINTED,
    "neural-art-64-retina": THICK["neural-art-64-retina"]._replace(num_tasks=1, seconds=0.35),
    "neural-art-64-gravel": Trial("neural-art-64-gravel", 128, 3, 1.15, weight=60.0),
}
"""The same with a style of one texture all over, on which rules are further behind."""

PICTURES = {
    "inversion-32": Trial("inversion-32", 200, 2, 0.04, weight=2.0),
    "inversion-32, short": Trial("inversion-32", 100, 2, 0.02),
    "neural-art-32": PAINTED._replace(num_tasks=2, seconds=0.15),
    "neural-art-64-gravel": Trial("neural-art-64-gravel", 128, 2, 0.77, weight=60.0),
}
"""Those whose parameters are a picture."""
