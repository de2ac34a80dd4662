"""What the kernels of RSA and probes take through torch, on a GPU where one is at hand.

    python benchmarks/rsa_torch.py [--device cuda] [--part 1.0]

The kernels themselves are written for one core and its cache: small batches, BLAS in place, no
copy. On a device the same formulas are one product each, so that they are written anew here, in
float64, and held to the kernels to 1e-9; the analyses stay without torch. Wall seconds, the best
of three, without the way to the device and back. `--part` takes a share of the features and
labellings. On a CPU the table shows what the kernels gain by that shape, and no more.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from time import perf_counter

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch
from torch import Tensor

from patchclamp.analyses.contrasts import contrasts, pair_sets
from patchclamp.analyses.permutation import permuted_labels
from patchclamp.analyses.rdm import dissimilarities, fisher_z
from patchclamp.analyses.ridge import fit_ridge
from patchclamp.analyses.splits import Split
from patchclamp.analyses.time_course import course_dissimilarities

KIND = "discriminative"


def told(
    what: str, kernel: Callable[[], np.ndarray], formula: Callable[[], Tensor], device: str
) -> None:
    """Hold a formula to the kernel, and print what both take."""
    expected, found = kernel(), formula()
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-9, atol=1e-9)
    ours, theirs = (min(_seconds(work, device) for _ in range(3)) for work in (kernel, formula))
    print(f"{what:58} {ours:9.4f} s {theirs:9.4f} s {ours / theirs:8.2f}x", flush=True)


def _seconds(work: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return perf_counter() - start


def unit(x: Tensor) -> Tensor:
    """Return patterns centred and of length 1 along the last axis."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.linalg.vector_norm(centred, dim=-1, keepdim=True)


def upper(square: Tensor) -> Tensor:
    """Return the pairs i < j of the last two axes."""
    first, second = torch.triu_indices(*square.shape[-2:], 1, device=square.device)
    return square[..., first, second]


def correlation_rdm(x: Tensor) -> Tensor:
    """1 - r = |u_i - u_j|² / 2, what all patterns share taken away first."""
    u = unit(x)
    u = u - u.mean(dim=0)
    squares = (u * u).sum(dim=1)
    return upper((squares[:, None] + squares) / 2 - u @ u.T)


def course_z(courses: Tensor) -> Tensor:
    """Fisher z of each pair of stimuli for each unit, (unit, pair), some units at a time."""
    parts = []
    for some in courses.split(2048):
        u = unit(some)
        d = 1 - upper(u @ u.transpose(1, 2))
        parts.append(torch.log((2 - d) / d) / 2)
    return torch.cat(parts)


def permuted_contrasts(z: Tensor, labellings: np.ndarray) -> Tensor:
    """The contrast of every unit under every labelling: one product with both sets of pairs."""
    sets = [pair_sets(codes, KIND) for codes in labellings]
    weights = np.stack([a / a.sum() - b / b.sum() for a, b in sets], axis=1)
    return z @ torch.as_tensor(weights, device=z.device)


def ridge_weights(gram: Tensor, targets: Tensor) -> Tensor:
    """Least squares with penalty 1 for all labellings, from one factor."""
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + eye)
    return torch.cholesky_solve(targets - targets.mean(dim=0), factor)


def main() -> None:
    """Print a table of wall seconds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng, device = np.random.default_rng(0), given.device
    features, permutations = int(50_000 * given.part), int(1000 * given.part)

    def there(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=device)

    print(f"{'':58} {'kernel':>11} {f'torch, {device}':>11} {'ratio':>9}")
    for n in (500, 2000):
        x = rng.normal(size=(n, 4096)) * np.linspace(3, 0.1, 4096) + rng.normal(size=4096)
        moved = there(x)
        told(f"correlation RDM, {n} x 4096", lambda x=x: dissimilarities(x),
             lambda moved=moved: correlation_rdm(moved), device)  # fmt: skip
    n = 50
    courses = rng.normal(size=(features, n, 50)).astype(np.float32)
    codes = np.repeat([0, 1], n // 2)
    labellings = np.concatenate([codes[None], permuted_labels(codes, None, permutations, rng)])
    moved = there(courses)
    told(f"z of time courses, {features:,} features x {n} x 50",
         lambda: fisher_z(dissimilarity=course_dissimilarities(courses)),
         lambda: course_z(moved), device)  # fmt: skip
    z = fisher_z(dissimilarity=course_dissimilarities(courses))
    moved_z = there(z)
    told(f"their contrasts under {permutations:,} labellings",
         lambda: contrasts(z, labellings, KIND),
         lambda: permuted_contrasts(moved_z, labellings), device)  # fmt: skip
    x = rng.normal(size=(1600, 4096))
    x -= x.mean(axis=0)
    gram, targets = x @ x.T, rng.choice([-1.0, 1.0], size=(1600, permutations))
    split, moved, sides = Split(gram, gram[:0], dual=True), there(gram), there(targets)
    told(f"ridge of {permutations:,} labellings, 1,600 stimuli",
         lambda: fit_ridge(split, targets, 1.0)[0],
         lambda: ridge_weights(moved, sides), device)  # fmt: skip


if __name__ == "__main__":
    main()
