"""Table 2 as a page and as a picture."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval.drawing import new_picture
from eval.table2_measures import LABELS, Row
from eval.table2_texts import Copying
from train.clamp_dpo.report import figure

Cell = Callable[[Row], str]


def markdown(rows: Sequence[Row], names: Mapping[str, Any]) -> str:
    """The table over all prompts, and the scores of each prompt."""
    lines = [", ".join(f"{name}: {value}" for name, value in names.items() if value is not None), ""]
    columns = _columns(rows)
    lines += [_line(["system", *columns]), _line(["---"] * (len(columns) + 1))]
    lines += [_line([row.system, *(cell(row) for cell in columns.values())]) for row in rows]
    for title, of in (("CLaMP 2 score", "prompts"), ("Second judge", "second_prompts")):
        prompts = list(dict.fromkeys(prompt for row in rows for prompt in getattr(row, of)))
        if prompts:
            lines += ["", f"{title} by prompt", ""]
            lines += [_line(["prompt", *(row.system for row in rows)]), _line(["---"] * (len(rows) + 1))]
            for prompt in prompts:
                lines.append(_line([prompt, *(figure(getattr(row, of).get(prompt)) for row in rows)]))
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row]) -> str:
    """The measures over K as an SVG picture, the ground truth as a dashed line.

    Raises `NotaGenError` when matplotlib is not installed.
    """
    truth, *policies = rows
    panels = _panels(rows)
    picture = new_picture(3.1 * len(panels), 2.9)
    for axes, (title, series) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, (label, value) in enumerate(series.items()):
            known = [(k, value(row)) for k, row in enumerate(policies) if value(row) is not None]
            color = f"C{number}"
            axes.plot([k for k, _ in known], [v for _, v in known], "o-", color=color, label=label)
            if value(truth) is not None:
                axes.axhline(value(truth), color=color, linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("K")
        axes.set_xticks(range(len(policies)))
        if len(series) > 1:
            axes.legend(fontsize=8)
    stream = io.StringIO()
    picture.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _panels(rows: Sequence[Row]) -> list[tuple[str, dict[str, Callable[[Row], float | None]]]]:
    """Titles and series of the panels that have anything to show."""
    labels = {label: _label_series(label) for label in LABELS}
    panels: list[tuple[str, dict[str, Callable[[Row], float | None]]]] = [
        ("CLaMP 2 score", {"judge": lambda row: row.score, "second judge": lambda row: row.second_score}),
        ("label accuracy, %", labels),
        ("bar alignment error, %", {"": lambda row: _hundred(row.bar_alignment_error)}),
        ("perplexity", {"": lambda row: row.perplexity}),
    ]
    shown = []
    for title, series in panels:
        kept = {name: value for name, value in series.items() if any(value(r) is not None for r in rows[1:])}
        if kept:
            shown.append((title, kept))
    return shown


def _columns(rows: Sequence[Row]) -> dict[str, Cell]:
    """The columns that have anything to show."""
    columns: dict[str, Cell] = {
        "CLaMP 2 score": lambda row: _with_error(row.score, row.score_error),
        "second judge": lambda row: _with_error(row.second_score, row.second_error),
        **{f"{label} acc. %": _label_cell(label) for label in LABELS},
        "BAE %": lambda row: _percent(row.bar_alignment_error),
        "PPL": lambda row: figure(row.perplexity),
        "closest training piece % (largest)": lambda row: _copying(row.copying),
        "finished %": lambda row: _percent(row.finished),
        "aligned %": lambda row: _percent(row.aligned),
    }
    return {name: cell for name, cell in columns.items() if any(cell(row) != "–" for row in rows)}


def _label_series(label: str) -> Callable[[Row], float | None]:
    return lambda row: _hundred(row.labels.get(label))


def _label_cell(label: str) -> Cell:
    return lambda row: _percent(row.labels.get(label))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_error(value: float | None, error: float | None) -> str:
    return figure(value) + ("" if value is None or error is None else f" ± {error:.4f}")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _copying(found: Copying | None) -> str:
    return "–" if found is None else f"{100 * found.mean:.1f} ({100 * found.largest:.1f})"


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value
