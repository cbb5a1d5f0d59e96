"""Trained meta-parameters in files, and the ones that come with the package."""

from l2ljax.bundled.files import (
    WEIGHTS,
    load_meta_params,
    load_optimizer,
    load_pretrained,
    pretrained_metadata,
    pretrained_names,
    read_sealed,
    save_optimizer,
    weights_path,
)
from l2ljax.bundled.ready import PretrainedTable, pretrained, pretrained_table

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
