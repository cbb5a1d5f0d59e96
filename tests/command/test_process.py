"""What a command says of the machine it runs on."""

import jax
import pytest

from l2ljax.command import process


@pytest.mark.parametrize(
    ("backend", "devices", "cores", "told"),
    [
        ("cpu", 1, 2, True),
        ("cpu", 2, 2, False),  # as many as there are
        ("cpu", 1, 1, False),
        ("gpu", 1, 16, False),
    ],
)
def test_cores_that_stand_idle_are_told(backend, devices, cores, told, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    line = process.idle_cores()
    assert line is None if not told else "--devices=2" in line
