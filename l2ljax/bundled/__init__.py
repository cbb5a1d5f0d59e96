"""Trained meta-parameters in files, and the ones that come with the package."""

from l2ljax.bundled.files import load_optimizer, read_sealed, save_optimizer
from l2ljax.bundled.ready import PretrainedTable, pretrained, pretrained_table
from l2ljax.bundled.shipped import (
    WEIGHTS,
    load_meta_params,
    load_pretrained,
    pretrained_metadata,
    pretrained_names,
    weights_path,
)

__all__ = [
    "WEIGHTS",
    "PretrainedTable",
    "load_meta_params",
    "load_optimizer",
    "load_pretrained",
    "pretrained",
    "pretrained_metadata",
    "pretrained_names",
    "pretrained_table",
    "read_sealed",
    "save_optimizer",
    "weights_path",
]
