"""The outer loop: meta-training."""
