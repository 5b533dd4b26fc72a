"""What an offline W&B run really holds, read back from its file (a LevelDB log of protobuf records)."""

import json
import struct
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7


PATIENCE = 20.0
"""Seconds: W&B's own process may still write after the run has ended."""


def records(path: Path) -> list[Any]:
    """Return the records of ``run-<id>.wandb``, once it is complete: with the run's exit code."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            found = _records(path)
        except DecodeError:
            found = []
        if any(record.HasField("exit") for record in found) or time.monotonic() > end:
            return found
        time.sleep(0.2)


def _records(path: Path) -> list[Any]:
    content, at, found, part = path.read_bytes(), HEADER, [], b""
    while at + HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + HEADER])
        part += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            found.append(record)
            part = b""
    return found


def runs_of(folder: Path) -> list[Any]:
    """Return the run records (group, job type, tags, id) of the offline runs under a run folder, oldest first."""
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_ctime)
    return [next(record.run for record in records(path) if record.HasField("run")) for path in paths]


def run_of(folder: Path) -> Any:
    """Return the run record of the only offline run under a run folder."""
    (run,) = runs_of(folder)
    return run


def config_of(folder: Path) -> dict[str, Any]:
    """Return the configuration as last updated."""
    config: dict[str, Any] = {}
    for record in _all(folder):
        updates = record.run.config.update if record.HasField("run") else record.config.update
        config |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}
    return config


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the summary as last updated."""
    updates = [item for record in _all(folder) for item in record.summary.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def history_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the history."""
    rows = [record.history.item for record in _all(folder) if record.HasField("history")]
    return [{i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in row} for row in rows]


def _all(folder: Path) -> list[Any]:
    return [record for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")) for record in records(path)]
