"""Runs to look at: `write_report(workdirs, "report.html")`, and `save_training_curves`."""

from l2ljax.experiments.run_report.assembly import write_report
from l2ljax.experiments.run_report.picture import save_training_curves

__all__ = ["save_training_curves", "write_report"]
