"""How a family of official models is stored: names, shapes and places of its tensors.

Official checkpoints hold one tensor for each parameter and layer. Here the layers of a stack are
scanned, so each of their parameters carries a leading layer axis. A `Layout` states the mapping for
one family; everything that reads or writes files works with any layout.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from notagen_jax.errors import NotaGenError

Shape = tuple[int, ...]
Reader = Callable[[str], np.ndarray]
"""Official tensor name → its array, in official layout, of any float type."""


class OfficialTensor(NamedTuple):
    """One tensor of an official checkpoint and where it goes."""

    name: str
    shape: Shape
    path: tuple[str, ...]
    """Path in our parameter tree; empty for a tensor that has no parameter of its own."""
    layer: int | None = None
    """Index on the leading axis of our parameter, for a block's tensor."""
    transposed: bool = False
    tied_to: str | None = None
    """For a tensor without a path: the one whose values it repeats; None means that nothing reads it."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one family of models is stored."""

    model: str
    """Its name in messages."""
    holds: Callable[[Iterable[str]], bool]
    """Whether tensors of these names are of this family."""
    config_from_shapes: Callable[[Mapping[str, Shape], str | Path], Any]
    """The configuration of the model whose tensors have these shapes; raises `NotaGenError`."""
    official_tensors: Callable[[Any], Sequence[OfficialTensor]]
    """All tensors of a configuration, in the order of the official state dict."""
    read_config: Callable[[str, str], Any]
    """The configuration in the text of a `config.json`, the second argument naming the file."""
    sizes: tuple[str, ...]
    """The fields of the configuration that decide the shapes."""
    is_ignored: Callable[[str], bool]
    """Whether a tensor is a known buffer that holds no parameter."""
    describe: Callable[[Any], str]
    """The sizes of a configuration in one line, for people."""


def stack(tensors: Sequence[OfficialTensor], read: Reader) -> dict[str, Any]:
    """Our parameter tree, float32 numpy arrays, from official tensors read one at a time.

    Each tensor goes straight into its place, so the peak is the tree and one tensor.
    """
    params: dict[str, Any] = {}
    layers = _layer_counts(tensors)
    for tensor in tensors:
        if not tensor.path:
            continue
        *folders, leaf = tensor.path
        node = params
        for folder in folders:
            node = node.setdefault(folder, {})
        if leaf not in node:
            node[leaf] = np.empty(_own_shape(tensor, layers), np.float32)
        place = node[leaf] if tensor.layer is None else node[leaf][tensor.layer]
        values = read(tensor.name)
        place[...] = values.T if tensor.transposed else values
    return params


def tree_shapes(tensors: Sequence[OfficialTensor]) -> dict[str, Any]:
    """Our parameter tree with the shape of each array in its place."""
    shapes: dict[str, Any] = {}
    layers = _layer_counts(tensors)
    for tensor in tensors:
        node = shapes
        for folder in tensor.path[:-1]:
            node = node.setdefault(folder, {})
        if tensor.path:
            node[tensor.path[-1]] = _own_shape(tensor, layers)
    return shapes


def unstack(tensors: Sequence[OfficialTensor], params: Mapping[str, Any]) -> Reader:
    """The reader of a parameter tree's official tensors, each in official layout.

    Tensors that nothing reads are zeros. Raises `NotaGenError` when `params` has not the tree and
    shapes of `tensors`.
    """
    places = {tensor.name: tensor for tensor in tensors}
    layers = _layer_counts(tensors)
    leaves: dict[str, Any] = {}
    for tensor in tensors:
        if not tensor.path:
            continue
        node: Any = params
        for key in tensor.path:
            node = node.get(key) if isinstance(node, Mapping) else None
        expected = _own_shape(tensor, layers)
        found = None if node is None else tuple(np.shape(node))
        if found != expected:
            raise NotaGenError(
                f"parameters do not fit the model configuration: {'/'.join(tensor.path)} is {found}, "
                f"expected {expected}"
            )
        leaves[tensor.name] = node

    def read(name: str) -> np.ndarray:
        tensor = places[name]
        if tensor.tied_to is not None:
            return read(tensor.tied_to)
        if not tensor.path:
            return np.zeros(tensor.shape, np.float32)
        values = np.asarray(leaves[name] if tensor.layer is None else leaves[name][tensor.layer])
        return values.T if tensor.transposed else values

    return read


def check_tied(tensors: Sequence[OfficialTensor], read: Reader, source: str | Path, model: str) -> None:
    """Check that tensors that repeat another have its values; raises `NotaGenError` if not.

    The models here compute with the one that they are tied to, so another one would be lost.
    """
    for tensor in tensors:
        if tensor.tied_to is not None and not np.array_equal(read(tensor.name), read(tensor.tied_to)):
            raise NotaGenError(
                f"{source}: {tensor.name} differs from {tensor.tied_to}, but a {model} model ties them; "
                "the file is damaged or from another model"
            )


def check_shapes(
    expected: Sequence[OfficialTensor], shapes: Mapping[str, Shape], source: str | Path, model: str
) -> None:
    """Check that tensors are those expected; raises `NotaGenError` naming every one that is not.

    `model` describes in the error what was expected, as "NotaGen checkpoint of width 768".
    """
    known = {tensor.name: tensor.shape for tensor in expected}
    problems = []
    missing = [name for name in known if name not in shapes]
    unknown = [name for name in shapes if name not in known]
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown: {', '.join(unknown)}")
    problems += [
        f"{name} is {shapes[name]}, expected {shape}"
        for name, shape in known.items()
        if name in shapes and shapes[name] != shape
    ]
    if problems:
        raise NotaGenError(
            f"{source}: not a whole {model}; {'; '.join(problems)}. Download or save the checkpoint again"
        )


def count_layers(prefix: str, names: Iterable[str]) -> int:
    """Layers of the stack whose tensors are `prefix` + index + `.` …

    By the highest index, or by their number when an index is out of all reason; 1 when there is none.
    """
    layer = re.compile(rf"{re.escape(prefix)}(\d{{1,4}})\.")
    found = {int(match[1]) for name in names if (match := layer.match(name)) is not None}
    if not found:
        return 1
    return max(found) + 1 if max(found) < 4 * len(found) + 4 else len(found)


def _layer_counts(tensors: Sequence[OfficialTensor]) -> dict[tuple[str, ...], int]:
    counts: dict[tuple[str, ...], int] = {}
    for tensor in tensors:
        if tensor.layer is not None:
            counts[tensor.path] = max(counts.get(tensor.path, 0), tensor.layer + 1)
    return counts


def _own_shape(tensor: OfficialTensor, layers: Mapping[tuple[str, ...], int]) -> Shape:
    """Shape of the whole parameter that a tensor is (a layer of)."""
    shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
    return shape if tensor.layer is None else (layers[tensor.path], *shape)
