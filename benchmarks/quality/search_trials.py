"""On which training tasks `search_rule.py` searches, and how long their runs are."""

from search_trial import Trial

FIRST = {
    "mnist14-sigmoid-20": Trial("mnist14-sigmoid-20", 1000, 4, 0.33),
    "mnist8-relu-32": Trial("mnist8-relu-32", 3000, 4, 0.64),
    "cifar8-grey-relu-32": Trial("cifar8-grey-relu-32", 1000, 4, 0.19),
    "digits-autoencoder": Trial("digits-autoencoder", 1000, 4, 0.37),
    "breast-cancer-linear": Trial("breast-cancer-linear", 1000, 4, 0.005),
    "breast-cancer-linear, long": Trial("breast-cancer-linear", 4000, 2, 0.01),
    "bytes-transformer-16": Trial("bytes-transformer-16", 1000, 2, 1.09),
    "valley-noisy": Trial("valley-noisy", 1000, 6, 0.002),
    "valley-20": Trial("valley-20", 1000, 4, 0.001),
    "factorisation-30": Trial("factorisation-30", 1000, 4, 0.013),
    "teacher-8": Trial("teacher-8", 4000, 4, 0.56),
    "digits-relu-32": Trial("digits-relu-32", 1000, 4, 0.19),
    "digits-relu-32, small units": Trial("digits-relu-32", 1000, 4, 0.2, None, (0.01, 0.1), 100.0),
    "digits-relu-32, large units": Trial("digits-relu-32", 1000, 2, 0.09, None, (10.0, 30.0), 10.0),
    "digits-layernorm-128": Trial("digits-layernorm-128", 1000, 2, 0.46),
    "digits-tanh-64x32": Trial("digits-tanh-64x32", 1000, 2, 0.4),
}
"""Those that the bundled `averaged-suite` was searched on."""

WIDE = {
    "mnist14-sigmoid-20": Trial("mnist14-sigmoid-20", 1000, 3, 0.26),
    "mnist8-relu-32": Trial("mnist8-relu-32", 1000, 3, 0.15),
    "mnist8-relu-32, labels": Trial("mnist8-relu-32", 1000, 2, 0.11, "labels"),
    "mnist8-relu-32, es": Trial("mnist8-relu-32", 1000, 2, 0.14, "es"),
    "cifar8-grey-relu-32": Trial("cifar8-grey-relu-32", 1000, 3, 0.16),
    "cifar8-tanh-128": Trial("cifar8-tanh-128", 500, 1, 0.48),
    "cifar8-tanh-128, es": Trial("cifar8-tanh-128", 500, 1, 0.84, "es", weight=10.0),
    "digits-autoencoder": Trial("digits-autoencoder", 1000, 2, 0.18),
    "breast-cancer-linear": FIRST["breast-cancer-linear"],
    "bytes-transformer-16": Trial("bytes-transformer-16", 1000, 1, 0.54),
    "valley-noisy": FIRST["valley-noisy"],
    "valley-20": FIRST["valley-20"],
    "factorisation-30": FIRST["factorisation-30"],
    "teacher-8": Trial("teacher-8", 1000, 3, 0.11),
    "inversion-32": Trial("inversion-32", 1000, 1, 0.05),
    "inversion-32, middle": Trial("inversion-32", 200, 2, 0.04),
    "inversion-32, short": Trial("inversion-32", 100, 2, 0.02),
    "digits-relu-32": Trial("digits-relu-32", 1000, 2, 0.1),
    "digits-relu-32, small units": FIRST["digits-relu-32, small units"]._replace(
        num_tasks=2, seconds=0.1
    ),
    "digits-relu-32, large units": FIRST["digits-relu-32, large units"],
    "digits-layernorm-128": Trial("digits-layernorm-128", 1000, 1, 0.25),
    "digits-layernorm-128, es": Trial("digits-layernorm-128", 1000, 1, 0.27, "es"),
    "digits-tanh-64x32": FIRST["digits-tanh-64x32"],
    "digits-tanh-64x32, es": Trial("digits-tanh-64x32", 1000, 1, 0.2, "es"),
    "digits-convnet": Trial("digits-convnet", 1000, 2, 0.22),
    "mnist8-relu-32, long": Trial("mnist8-relu-32", 10_000, 1, 0.46),
    "breast-cancer-linear, long": Trial("breast-cancer-linear", 10_000, 2, 0.04),
    "valley-noisy, long": Trial("valley-noisy", 10_000, 4, 0.011),
    "factorisation-30, long": Trial("factorisation-30", 10_000, 4, 0.13),
    "teacher-8, long": Trial("teacher-8", 10_000, 1, 0.36),
    "mnist14-sigmoid-20, short": Trial("mnist14-sigmoid-20", 100, 6, 0.06),
    "mnist8-relu-32, short": Trial("mnist8-relu-32", 100, 6, 0.03),
    "cifar8-grey-relu-32, short": Trial("cifar8-grey-relu-32", 100, 4, 0.02),
    "digits-autoencoder, short": Trial("digits-autoencoder", 100, 4, 0.04),
    "digits-convnet, short": Trial("digits-convnet", 100, 4, 0.06),
    "bytes-transformer-16, short": Trial("bytes-transformer-16", 100, 2, 0.1),
    "teacher-8, short": Trial("teacher-8", 100, 4, 0.014),
}
"""Depth, noise, a picture, and from 100 steps to 10,000; fewer optimizees of each."""

CHEAP = ("breast-cancer-linear", "valley-noisy", "valley-20", "factorisation-30")
"""Tasks of which one optimizee more costs next to nothing."""

HALVED = {
    name: trial
    if trial.task in CHEAP
    else trial._replace(num_tasks=(trial.num_tasks + 1) // 2, seconds=trial.seconds / 2)
    for name, trial in FIRST.items()
} | {"cifar8-tanh-128, es": WIDE["cifar8-tanh-128, es"]}
"""For two cores: the first, with half the optimizees of those that take time, and one where
gradients are mostly noise."""


def shortened(trials: dict[str, Trial], num_steps: int) -> dict[str, Trial]:
    """None longer than `num_steps`, and none that says again what another does.

    Example:
        >>> sorted(shortened({"a": Trial("a", 1000, 1, 1.0), "b": Trial("a", 4000, 2, 4.0)}, 200))
        ['a']
    """
    short: dict[str, Trial] = {}
    for name, trial in trials.items():
        if trial.num_steps > num_steps:
            seconds = trial.seconds * num_steps / trial.num_steps
            trial = trial._replace(num_steps=num_steps, seconds=seconds)
        known = [(t.task, t.num_steps, t.noise, t.units) for t in short.values()]
        if (trial.task, trial.num_steps, trial.noise, trial.units) not in known:
            short[name] = trial
    return short


WHOLE = (
    "mnist14-sigmoid-20",
    "mnist8-relu-32",
    "cifar8-tanh-128, es",
    "inversion-32",
    "teacher-8",
    "digits-convnet",
)

EARLY = shortened(WIDE, 200) | {f"{name}, whole": WIDE[name] for name in WHOLE}
"""Runs of 100 and 200 steps, and a few whole ones that must not suffer."""

PICTURE = 3.0
"""Weight of a picture to find again: the only one of its kind, and far behind tuned Adam."""

OPENING = {
    name: trial._replace(weight=PICTURE) if trial.task == "inversion-32" else trial
    for name, trial in EARLY.items()
} | {f"{name}, whole": WIDE[name] for name in ("digits-autoencoder", "bytes-transformer-16")}
"""The same with more weight on the picture, and two more whole ones, on which the first such
search lost."""

LENGTHS = {
    f"{trial.task} {trial.num_steps}": trial
    for trial in (
        Trial("mnist14-sigmoid-20", 100, 4, 0.04),
        Trial("mnist14-sigmoid-20", 300, 2, 0.05),
        Trial("mnist14-sigmoid-20", 1000, 2, 0.17),
        Trial("mnist8-relu-32", 100, 4, 0.02),
        Trial("mnist8-relu-32", 300, 3, 0.05),
        Trial("mnist8-relu-32", 1000, 2, 0.1),
        Trial("mnist8-relu-32", 3000, 1, 0.14),
        Trial("cifar8-grey-relu-32", 300, 2, 0.03),
        Trial("cifar8-grey-relu-32", 1000, 2, 0.1),
        Trial("cifar8-tanh-128", 200, 1, 0.24),
        Trial("digits-autoencoder", 100, 2, 0.02, asked=0.6),
        Trial("digits-autoencoder", 300, 2, 0.06, asked=0.6),
        Trial("digits-autoencoder", 1000, 2, 0.18, asked=0.6),
        Trial("digits-convnet", 100, 3, 0.04, asked=0.3, weight=0.5),
        Trial("digits-convnet", 300, 3, 0.11, asked=0.2),
        Trial("digits-layernorm-128", 100, 2, 0.05),
        Trial("digits-layernorm-128", 300, 2, 0.15, asked=0.02, weight=0.3),
        Trial("digits-tanh-64x32", 100, 2, 0.04, asked=0.2, weight=0.5),
        Trial("digits-tanh-64x32", 300, 2, 0.1, asked=0.005, weight=0.3),
        Trial("digits-relu-32", 100, 3, 0.017, asked=0.2, weight=0.5),
        Trial("digits-relu-32", 300, 3, 0.05, asked=0.02, weight=0.3),
        Trial("bytes-transformer-16", 100, 1, 0.06),
        Trial("bytes-transformer-16", 300, 1, 0.16),
        Trial("bytes-transformer-16", 1000, 1, 0.54),
        Trial("quadratic", 100, 8, 0.001, weight=0.5),
        Trial("factorisation-30", 300, 4, 0.004, asked=300.0, weight=0.3),
        Trial("teacher-8", 100, 4, 0.014, asked=0.3, weight=0.5),
        Trial("teacher-8", 300, 3, 0.03, asked=0.2, weight=0.5),
        Trial("teacher-8", 4000, 1, 0.15, asked=0.1, weight=0.5),
        Trial("breast-cancer-linear", 300, 4, 0.002),
    )
}
"""Tasks at lengths at which they are not solved yet. So much less than tuned Adam reaches is asked
that a little better counts, and less where a run can be ten times better than another."""

ALL = (
    LENGTHS
    | {
        name: trial
        for name, trial in OPENING.items()
        if trial.task == "inversion-32" or name == "cifar8-tanh-128, es, whole"
    }
    | {name: WIDE[name] for name in ("digits-relu-32, small units", "mnist8-relu-32, es")}
    | {name: FIRST[name] for name in ("breast-cancer-linear", "breast-cancer-linear, long")}
    | {name: FIRST[name] for name in ("valley-20", "valley-noisy", "digits-relu-32, large units")}
    | {name: WIDE[name] for name in ("valley-noisy, long", "factorisation-30, long")}
)
"""For all numbers at once, once the rule is found: those, and what must not suffer."""

WHOLE_RUNS = {
    "mnist14-sigmoid-20 1000": 0.8,
    "mnist8-relu-32 1000": 0.9,
    "mnist8-relu-32 3000": 0.9,
    "cifar8-grey-relu-32 1000": 1.0,
    "digits-autoencoder 1000": 0.6,
    "bytes-transformer-16 1000": 1.0,
    "mnist8-relu-32, es": 1.0,
    "breast-cancer-linear": 1.0,
    "breast-cancer-linear, long": 1.0,
    "inversion-32, whole": 1.0,
}
"""Of those, the ones of a thousand steps and more that are not solved, and what is asked there."""

LASTING = {
    name: trial._replace(weight=trial.weight / 2)
    if trial.num_steps == 100 and trial.task != "inversion-32"
    else trial
    for name, trial in ALL.items()
} | {name: ALL[name]._replace(asked=asked, weight=2.0) for name, asked in WHOLE_RUNS.items()}
"""The same with twice the weight on whole runs and half on 100 steps: those ate into these."""

PAINTED = Trial("neural-art-32", 128, 4, 0.3, weight=20.0)
"""A photograph in a style: what two rules end at differs by a few per cent."""

STEADY = LASTING | {
    "oscillator-32": Trial("oscillator-32", 1000, 4, 0.5, asked=0.05),
    "oscillator-32, long": Trial("oscillator-32", 3000, 4, 1.4, weight=2.0),
    "neural-art-32": PAINTED,
}
"""The same with such a picture, and an equation, on which steps that are not too long for any of
the others spike."""

DEEP = STEADY | {
    "bytes-transformer-32x2": Trial("bytes-transformer-32x2", 400, 1, 0.6, weight=5.0),
}
"""The same with a transformer that is wide and deep enough for steps to be too long."""

ENDURING = {
    name: trial
    for name, trial in DEEP.items()
    if name not in ("oscillator-32, long", "mnist8-relu-32 3000")
} | {
    "oscillator-32, long": Trial("oscillator-32", 10_000, 3, 3.6, asked=3.0, weight=3.0),
    "mnist8-relu-32, long": WIDE["mnist8-relu-32, long"]._replace(asked=0.9, weight=2.0),
}
"""The same with 10,000 steps of the equation, as what 3,000 come to can be lost later on, and of a
noisy network, which must not pay for that."""

BROAD = ENDURING | {
    "digits-layernorm-128, es": Trial("digits-layernorm-128", 1000, 2, 0.61, "es"),
    "mnist8-relu-64x64x64": Trial("mnist8-relu-64x64x64", 1000, 2, 0.75, asked=0.85, weight=3.0),
}
"""The same with what it lost on: an evolution strategy on a normalised network, and depth."""

NOISY = BROAD | {
    "mnist8-relu-64x64x64, es": Trial("mnist8-relu-64x64x64", 4000, 1, 3.0, "es", weight=2.0),
}
"""The same with an evolution strategy for long, on a network in which noise that adds up in each
layer multiplies."""

BEGINNING = shortened(OPENING, 200) | {
    name: LENGTHS[name]
    for name in ("mnist8-relu-32 1000", "digits-autoencoder 1000", "digits-convnet 300")
}
"""For a beginning alone, in a third of the time of `opening`: three longer ones."""

PAINTING = BEGINNING | {"neural-art-32": PAINTED}
"""The same with a photograph in a style."""

HORIZONS = (
    {name: trial for name, trial in BROAD.items() if trial.task != "oscillator-32"}
    | {name: trial for name, trial in ALL.items() if trial.num_steps == 100}
    | {"oscillator-32": Trial("oscillator-32", 3000, 2, 0.7, asked=0.05, weight=2.0)}
    | {
        name: BROAD[name]._replace(num_tasks=1, seconds=BROAD[name].seconds / 2)
        for name in ("digits-layernorm-128, es", "mnist8-relu-64x64x64")
    }
)
"""For rules that are told the number of steps: 100 count in full, and 3,000 of the equation are
enough, as steps die down towards the end however long it is."""

FAR_HORIZONS = HORIZONS | {
    "digits-layernorm-128, es": BROAD["digits-layernorm-128, es"]._replace(weight=3.0),
    "mnist14-sigmoid-20, long": Trial("mnist14-sigmoid-20", 10_000, 1, 0.8, asked=0.6, weight=2.0),
    "teacher-8, long": WIDE["teacher-8, long"]._replace(asked=0.1),
}
"""The same with more of what it lost on: an evolution strategy on a normalised network, and 10,000
steps of what is not solved by then."""
