"""Honest measurement: rollouts, statistics, reports."""
