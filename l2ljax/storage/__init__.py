"""What lasts: checkpoints, seals, working directories."""
