"""A page of one or several runs: `write_report(workdirs, "report.html")`."""

from l2ljax.experiments.run_report.assembly import write_report

__all__ = ["write_report"]
