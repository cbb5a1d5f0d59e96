"""Rounds of measurements -> one row a variant, and rows -> a table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "what": ("", str),
    "seconds": ("median ms", lambda s: f"{1e3 * s:.1f}"),
    "least": ("least", lambda s: f"{1e3 * s:.1f}"),
    "most": ("most", lambda s: f"{1e3 * s:.1f}"),
    "times_adam": ("x Adam's time", "{:.1f}".format),
    "times_fastest_peer": ("x fastest peer", "{:.2f}".format),
    "inner_steps_per_s": ("inner steps/s", "{:,.0f}".format),
    "coord_steps_per_s": ("M coord-steps/s", lambda x: f"{x / 1e6:.2f}"),
    "share_of_bound": ("of bound", "{:.0%}".format),
    "temporary_mib": ("temp MiB", "{:.1f}".format),
    "peak_rss_mb": ("peak RSS MB", "{:.0f}".format),
    "compile_s": ("compile s", "{:.1f}".format),
    "state_bytes_per_parameter": ("state B/param", "{:.0f}".format),
}
"""Field -> (heading, how to show it)."""

_MEDIANS = [name for name in COLUMNS if name not in ("what", "seconds", "least", "most")]


def summarise(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row a label: medians over rounds, and how many times as fast as the fastest peer."""
    seconds = {
        label: [record["seconds_per_update"] for record in found]
        for label, found in records.items()
    }
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    peers = [s for label, s in medians.items() if not label.startswith("l2ljax")]
    rows = []
    for label, found in records.items():
        row = {
            "what": label,
            "seconds": medians[label],
            "least": min(seconds[label]),
            "most": max(seconds[label]),
            "rounds": len(found),
            "finite": all(record.get("finite", True) for record in found),
        }
        for field in _MEDIANS:
            values = [record[field] for record in found if record.get(field) is not None]
            row[field] = statistics.median(values) if values else None
        if (adam := medians.get("l2ljax, adam")) is not None:
            row["times_adam"] = medians[label] / adam
        if peers:
            row["times_fastest_peer"] = min(peers) / medians[label]
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the columns that have any value."""
    columns = [name for name in COLUMNS if any(row[name] is not None for row in rows)]
    lines = [[COLUMNS[name][0] for name in columns], ["---"] * len(columns)]
    for row in rows:
        lines.append(
            ["-" if row[name] is None else COLUMNS[name][1](row[name]) for name in columns]
        )
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
