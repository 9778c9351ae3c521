"""The Gaussian mixture, full covariances in float32, against scikit-learn's in float64.

Correctness first, then iterations from the same start where responsibilities are hard and where
they are soft, each form in a fresh process (Linux), and one line of JSON last:
``hatch run bench mixture``. Where they are soft all components share all samples and means move, so
equality counts there. scikit-learn's fit ends with one more E-step, which is timed by itself and
taken off. ``--voxels 316000`` adds a whole fit at the size of NSD.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.mixture
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from brainit_clusters.mixture import GaussianMixture

TOLERANCE = 1e-6  # of a likelihood, relative
REGIMES = {"hard": (1.0, 1e-3), "soft": (0.3, 3e-2)}  # length of the centres, reg_covar
FORMS = {"ours": np.float32, "sklearn": np.float64}
Samples = NDArray[np.float64]


def problem(regime: str, sizes: tuple[int, int, int], seed: int) -> tuple[Samples, dict[str, Any]]:
    """Samples [n, d] about K centres, noise of length 1/2, and a start at others of the samples."""
    n_samples, n_features, n_components = sizes
    length, reg_covar = REGIMES[regime]
    rng = np.random.default_rng(seed)
    centres = length * rng.normal(size=(n_components, n_features)) / n_features**0.5
    labels = rng.permutation(np.arange(n_samples) % n_components)
    samples = 0.5 * rng.normal(size=(n_samples, n_features)) / n_features**0.5 + centres[labels]
    samples = samples.astype(np.float32).astype(np.float64)  # rounding them is not at issue
    first = [np.flatnonzero(labels == k)[0] for k in range(n_components)]
    precision = np.eye(n_features) / (0.25 / n_features + reg_covar)
    start = {
        "n_components": n_components,
        "reg_covar": reg_covar,
        "weights_init": np.full(n_components, 1 / n_components),
        "means_init": samples[first],
        "precisions_init": np.repeat(precision[None], n_components, axis=0),
    }
    return samples, start


def fit(form: str, problem_of: tuple[Any, ...], n_iterations: int, threads: int) -> dict[str, Any]:
    """Seconds an iteration, extra memory, likelihoods and means; to be run in a fresh process."""
    samples, start = problem(*problem_of)
    values = samples.astype(FORMS[form])
    del samples
    kind = GaussianMixture if form == "ours" else sklearn.mixture.GaussianMixture
    mixture = kind(**start, tol=0, max_iter=n_iterations)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = time.perf_counter()
        mixture.fit(values)
        seconds = time.perf_counter() - begin
        extra = memory("VmHWM") - before
        if form == "sklearn":
            begin = time.perf_counter()
            mixture.predict(values)
            seconds -= time.perf_counter() - begin
        shares = mixture.predict_proba(values[:1000])
    return {
        "seconds": seconds / n_iterations,
        "extra_mib": max(extra, 1.0),
        "bounds": np.array(mixture.lower_bounds_),
        "means": np.array(mixture.means_),
        "moved": np.linalg.norm(mixture.means_ - start["means_init"]),
        "shares": (shares > 1e-8).sum(axis=1).mean(),
    }


def memory(field: str) -> float:
    """MiB of this process: VmRSS for what it holds, VmHWM for the most that it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**10


def likelihood_error(ours: NDArray[Any], truth: NDArray[Any]) -> float:
    """Largest relative error of any iteration's mean log likelihood."""
    return float(np.max(np.abs(ours - truth) / np.abs(truth)))


def small_checks(seed: int) -> dict[str, tuple[float, float]]:
    """Errors and tolerances of small fits of every kind."""
    errors = {}
    for regime in REGIMES:
        samples, start = problem(regime, (5000, 16, 6), seed)
        del start["precisions_init"]
        for covariance in ("full", "diag", "spherical"):
            options = {"covariance_type": covariance, "tol": 0, "max_iter": 5, **start}
            options["random_state"] = seed
            truth = sklearn.mixture.GaussianMixture(**options).fit(samples).lower_bounds_
            for kind, tolerance in ((np.float64, 1e-10), (np.float32, TOLERANCE)):
                found = GaussianMixture(**options).fit(samples.astype(kind)).lower_bounds_
                error = likelihood_error(np.array(found), np.array(truth))
                errors[f"{covariance}, {regime}, {kind.__name__}"] = error, tolerance
    return errors


def whole_fit(n_voxels: int, sizes: tuple[int, int, int], seed: int) -> dict[str, float]:
    """Seconds and iterations of a fit from k-means to convergence."""
    samples, start = problem("hard", (n_voxels, *sizes[1:]), seed)
    values = samples.astype(np.float32)
    del samples
    mixture = GaussianMixture(sizes[2], reg_covar=start["reg_covar"], random_state=seed, verbose=1)
    begin = time.perf_counter()
    mixture.fit(values)
    return {"voxels": n_voxels, "s": time.perf_counter() - begin, "iterations": mixture.n_iter_}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"samples": 20_000, "dim": 256, "components": 128, "iterations": 2}
    for name, default in {**defaults, "voxels": 0, "threads": 2, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    chosen = parser.parse_args()
    sizes = chosen.samples, chosen.dim, chosen.components
    warnings.simplefilter("ignore", ConvergenceWarning)
    errors = small_checks(chosen.seed)
    found: dict[str, dict[str, Any]] = {}
    for regime in REGIMES:
        for form in FORMS:
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                task = (form, (regime, sizes, chosen.seed), chosen.iterations, chosen.threads)
                found[f"{regime}, {form}"] = fresh.submit(fit, *task).result()
        ours, truth = found[f"{regime}, ours"], found[f"{regime}, sklearn"]
        errors[f"this size, {regime}"] = (
            likelihood_error(ours["bounds"], truth["bounds"]),
            TOLERANCE,
        )
        apart = np.linalg.norm(ours["means"] - truth["means"]) / truth["moved"]
        errors[f"this size, {regime}: means, of their way"] = float(apart), 1e-4
    passed = all(error <= tolerance for error, tolerance in errors.values())
    print("gate", "passed" if passed else "failed")
    for name, (error, tolerance) in errors.items():
        print(f"  {name:<40} {error:.1e} (at most {tolerance:.0e})")
    print(f"\n{'':<16}{'s/iteration':>12}{'extra MiB':>12}{'shares/row':>12}  log likelihoods")
    for name, row in found.items():
        bounds = " ".join(f"{bound:.6f}" for bound in row["bounds"])
        print(
            f"{name:<16}{row['seconds']:>12.2f}{row['extra_mib']:>12.0f}{row['shares']:>12.1f}"
            f"  {bounds}"
        )

    def ratio(regime: str, key: str) -> float:
        return float(found[f"{regime}, sklearn"][key] / found[f"{regime}, ours"][key])

    whole = {"whole_fit": whole_fit(chosen.voxels, sizes, chosen.seed)} if chosen.voxels else {}
    result = {
        "name": "mixture",
        "gate": "passed" if passed else "failed",
        "speedup": round(ratio("hard", "seconds"), 2),
        "speedup_soft": round(ratio("soft", "seconds"), 2),
        "memory_ratio": round(1 / min(ratio(regime, "extra_mib") for regime in REGIMES), 3),
        "baseline": f"scikit-learn {sklearn.__version__}, float64",
        "s": {name: round(row["seconds"], 2) for name, row in found.items()},
        "settings": vars(chosen),
        **whole,
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
