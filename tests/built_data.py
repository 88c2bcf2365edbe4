"""Reading what a builder wrote, for the tests of the builders."""

import json
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds


def rows(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split, in order."""
    source = tfds.builder_from_directory(directory).as_data_source()
    return {split: list(table) for split, table in source.items()}


def names(directory: Path) -> dict[str, list[str]]:
    """The pieces of each split, in order."""
    return {split: [row["name"].decode() for row in table[::15]] for split, table in rows(directory).items()}


def report(directory: Path) -> dict[str, Any]:
    """The account of a build."""
    return json.loads((directory / "build_report.json").read_text(encoding="utf-8"))


def dropped(directory: Path) -> dict[str, str]:
    """The reason of each dropped score, by name; the details after the names are taken off."""
    return {
        entry.split(" (")[0]: reason
        for reason, entries in report(directory)["dropped_by_reason"].items()
        for entry in entries
    }
