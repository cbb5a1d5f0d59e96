"""From plain data to a run."""
