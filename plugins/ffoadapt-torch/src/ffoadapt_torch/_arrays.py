"""Tensors to and from NumPy, in the types in which users give them."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch

from ffoadapt import ParameterError, ShapeError

__all__ = ["as_given", "common_dtype", "sparse_parts", "to_numpy"]


def common_dtype(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    dtypes = {t.dtype for t in tensors}
    if dtypes == {torch.float64}:
        return torch.float64
    if any(dtype.is_complex for dtype in dtypes):
        raise ParameterError(
            "an argument is complex; expected real numbers. A complex parameter of a layer takes "
            "pairs of them: torch.view_as_real(value)"
        )
    floating = [dtype for dtype in dtypes if dtype.is_floating_point]
    if not floating:
        return torch.get_default_dtype()
    return reduce(torch.promote_types, floating)


def as_given(tensor: torch.Tensor) -> Any:
    """The numbers in the type in which they came, which says what rounding may have done to them.

    NumPy has no bfloat16: its numbers come as float32.
    """
    if tensor.dtype is torch.float64 or tensor.layout != torch.strided:
        return to_numpy(tensor)
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy(force=True)


def to_numpy(tensor: torch.Tensor) -> Any:
    if tensor.dtype is torch.float64:
        try:
            return tensor.numpy()
        except (RuntimeError, TypeError):  # it is sparse, elsewhere, negated lazily, or in a graph
            pass
    if tensor.layout != torch.strided:
        raise ParameterError(
            "an argument is a sparse tensor; only the matrices P, G and A of qp, box_qp and "
            "cone_program may be sparse. Convert it with .to_dense()"
        )
    if tensor.dtype is not torch.float64:
        tensor = tensor.detach().to(device="cpu", dtype=torch.float64)
    return tensor.numpy(force=True)


def sparse_parts(array: torch.Tensor) -> tuple[Any, Any, Any]:
    """(rows, columns, values) of a sparse tensor; see `ffoadapt.Framework.sparse_parts`."""
    coo = (array if array.layout == torch.sparse_coo else array.to_sparse_coo()).coalesce()
    if coo.dim() != 2:
        return None, None, None  # refused by its shape
    if coo.dense_dim():
        raise ShapeError(
            "a sparse tensor with a dense dimension; expected one without. Convert it with "
            ".to_dense().to_sparse()"
        )
    rows, columns = coo.indices().cpu().numpy()
    return rows, columns, coo.values()
