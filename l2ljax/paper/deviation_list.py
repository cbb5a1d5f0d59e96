"""Where this reproduction departs from the paper and its released code, and what that does."""

DEVIATIONS = [
    (
        "windows of the unroll",
        "20 steps of 100",
        "20 steps of 100",
        "20 on quadratics, 100 on MNIST: whole episodes (--config.unroll_length=20)",
        (
            "at the full budget, with as many meta-updates: {mnist-windows20/lstm} instead of "
            "{mnist/lstm}, beside NAG's {mnist/nag}; at the short one, with as many inner steps: "
            "{windows}, reference {reference}"
        ),
    ),
    (
        "coordinates in the backward pass",
        "all",
        "all",
        "a random eighth on MNIST (--config.estimator.coordinate_share=1.0)",
        (
            "in as many updates: {all-coordinates}, reference {reference}; but each takes longer "
            "(docs/performance.md)"
        ),
    ),
    (
        "output scale",
        "0.1 on MNIST; none on quadratics",
        "0.01",
        "0.1, on quadratics too (--config.optimizer.output_scale=0.01)",
        "{output-scale}, reference {reference}; on quadratics it was not measured",
    ),
    (
        "gradient preprocessing on MNIST",
        "log and sign, p = 10",
        "log and sign, k = 5",
        "log and sign, p = 10 (--config.optimizer.preprocess.p=5.0)",
        "{log-sign-5}, reference {reference}",
    ),
    (
        "start of the optimizees",
        "not given",
        "MNIST: weights and biases normal, standard deviation 0.01",
        (
            "weights normal, standard deviation 1 / sqrt(fan_in), biases 0 "
            "(--config.task.init_stddev=0.01)"
        ),
        (
            "another task: {init}, beside NAG's {init/nag} and Adam's {init/adam} tuned there; "
            "reference {reference} beside {nag} and {adam}"
        ),
    ),
    (
        "forget gate's bias",
        "not given",
        "1.0 (Sonnet's LSTM adds it)",
        "1.0",
        "nothing: it is the same",
    ),
    (
        "meta-optimizer",
        "Adam, rate by random search",
        "Adam, rate 0.001 by default",
        (
            "Adam, rate 0.003, clipped at norm 1, cosine decay "
            "(--config.meta_optimizer.learning_rate=0.001 "
            "--config.meta_optimizer.schedule=constant --config.meta_optimizer.clip_norm=1e9)"
        ),
        "{adam-constant}, reference {reference}",
    ),
    (
        "choice of the meta-parameters",
        "best of the validation runs",
        "best of the evaluations",
        "best on a fixed validation batch; a run's checkpoint holds the last ones too",
        "the last instead of the best: {last}, reference {reference}",
    ),
    (
        "meta-loss",
        "all steps, w_t = 1",
        "all steps",
        "all steps (--config.weights=last: the last one only)",
        (
            "the last only, on quadratics: {quadratic-meta-losses/lstm_last} instead of "
            "{quadratic-meta-losses/lstm}, beside Adam's {quadratic-meta-losses/adam}; "
            "on MNIST: {last-only}, reference {reference}"
        ),
    ),
    (
        "all of the released code's settings at once",
        "",
        "windows, coordinates, scale, k, start, meta-optimizer as above",
        "the flags above together",
        "{released-code}, beside {init}, NAG's {init/nag} and Adam's {init/adam} on that task",
    ),
    (
        "another seed of meta-training",
        "",
        "",
        "0 (--config.seed=1)",
        (
            "{reference-seed-1} and {reference-seed-2}, reference {reference}: "
            "effects smaller than this mean little"
        ),
    ),
]
"""What, in the paper, in DeepMind's released code, here (and how to switch), and what that does.

Names in braces are final losses in docs/results/, see `l2ljax.paper.deviations.fill`.
"""
