"""The command line: `l2ljax train`, `evaluate`, `report`, `list`, `export` and others.

`main` is what `l2ljax` and `python -m l2ljax` run, and `run_script` what a script in `scripts/`
does. A command is one file here and one line in `l2ljax.command.entry.COMMANDS`.
"""

from l2ljax.command.configs import bundled_config, config_names
from l2ljax.command.entry import main, run_script

__all__ = ["bundled_config", "config_names", "main", "run_script"]
