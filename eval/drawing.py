"""Pictures of figures, as SVG."""

from typing import Any

from notagen_jax.errors import NotaGenError


def new_picture(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches; without a date the same drawing gives the same SVG.

    Raises `NotaGenError` when matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotaGenError(
            'the picture is drawn with matplotlib; run `pip install "notagen-jax[eval]"`'
        ) from error
    matplotlib.rcParams["svg.hashsalt"] = "notagen-jax"  # fixed names of its parts
    return Figure(figsize=(width, height), layout="constrained")
