"""Fréchet inception distance, streaming.

Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017 (arXiv 1706.08500).
"""

import numpy as np

MIN_SAMPLES = 2


class Gaussian:
    """Mean and covariance of features that arrive in batches; float64, one pass.

    Batches are merged by Chan's formula (Chan, Golub, LeVeque 1979), which, unlike a sum of
    squares, loses no digits when the mean is large against the deviation.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimension)
        self._scatter = np.zeros((dimension, dimension))
        self._root: np.ndarray | None = None

    def update(self, features: np.ndarray) -> None:
        """Add a batch of features, [N, dimension] of any float dtype; N may be 0."""
        features = np.asarray(features, np.float64)
        added = len(features)
        if added == 0:
            return
        mean = features.mean(axis=0)
        centred = features - mean
        shift = mean - self.mean
        total = self.count + added
        self._scatter += centred.T @ centred
        self._scatter += np.outer(shift, shift * (self.count * added / total))
        self.mean += shift * (added / total)
        self.count = total
        self._root = None

    @property
    def covariance(self) -> np.ndarray:
        """[dimension, dimension], with the divisor count - 1 (numpy.cov's default)."""
        if self.count < MIN_SAMPLES:
            raise ValueError("a covariance needs two samples")
        return self._scatter / (self.count - 1)

    def covariance_root(self) -> np.ndarray:
        """The symmetric square root of the covariance; kept until the next batch."""
        if self._root is None:
            values, vectors = np.linalg.eigh(self.covariance)
            self._root = (vectors * _roots(values)) @ vectors.T
        return self._root


def fid(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); 0 for equal Gaussians.

    The trace of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2),
    which is symmetric and so has real ones. With fewer samples than dimensions the covariances
    are singular: the value is defined, and depends on the number of samples.
    """
    cov_a, cov_b = a.covariance, b.covariance
    root_a = a.covariance_root()
    trace_of_root = _roots(np.linalg.eigvalsh(root_a @ cov_b @ root_a)).sum()
    distance = np.sum((a.mean - b.mean) ** 2) + np.trace(cov_a) + np.trace(cov_b)
    return float(distance - 2 * trace_of_root)


def _roots(eigenvalues: np.ndarray) -> np.ndarray:
    """Square roots; what is zero but for rounding counts as zero (the root would magnify it)."""
    noise = eigenvalues.max() * len(eigenvalues) * np.finfo(np.float64).eps
    return np.sqrt(np.where(eigenvalues > noise, eigenvalues, 0))
