"""Inverted lists in half precision, by faiss: rows of a table grouped by direction, of which a search reads a few.

faiss allows searches beside one another but none beside a change, so every change waits for them, a few rows at a time. It
releases the interpreter's lock in all that takes long, and is held to one thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 512  # rows changed between two searches
FEWEST, MOST = 8, 4096  # lists
EACH = 64  # rows of the sample, for each list
ROUNDS = 10  # of k-means


class Gate:
    """Any number may read, or one may write; a writer who waits goes before readers who come later."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Beside other readers."""
        with self._turn:
            self._turn.wait_for(lambda: not self._writing and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._turn:
                self._readers -= 1
                self._turn.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Alone."""
        with self._turn:
            self._waiting += 1
            try:
                self._turn.wait_for(lambda: not self._writing and not self._readers)
            finally:
                self._waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._turn:
                self._writing = False
                self._turn.notify_all()


class Lists:
    """About the square root of `n` lists of vectors of `dimensions` float32; rows whose factors are not finite are left out.

    Trained, filled and closed by one thread; from then on `shortlist` may be called by any, `put` and `drop` by one at a time.
    """

    def __init__(self, dimensions: int, n: int, seed: int) -> None:
        self.count: int = min(MOST, max(FEWEST, 2 ** round(math.log2(max(1, n)) / 2)))
        self.sample = EACH * self.count
        self._gate = Gate()
        self._faiss = faiss = _faiss()
        self._coarse = faiss.IndexFlatIP(dimensions)
        kind, metric = faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexIVFScalarQuantizer(self._coarse, dimensions, self.count, kind, metric, False)
        self._index.cp.seed = seed
        self._index.cp.niter = ROUNDS
        self._index.cp.min_points_per_centroid = 1  # it warns on standard error below that

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def train(self, vectors: npt.NDArray[np.float32]) -> None:
        """Find the directions of the lists. Fewer vectors than lists are repeated, with a little noise."""
        vectors = _finite(vectors)
        rng = np.random.default_rng(self._index.cp.seed)
        if len(vectors) < self.count:
            base = np.resize(vectors, (self.count, self._index.d)) if len(vectors) else np.zeros((self.count, self._index.d))
            vectors = (base + 1e-3 * rng.standard_normal(base.shape)).astype(np.float32)
        self._faiss.omp_set_num_threads(1)
        self._index.train(vectors)

    def fill(self, vectors: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        """Add rows that are not there yet."""
        self._faiss.omp_set_num_threads(1)
        good = np.isfinite(vectors).all(axis=1)
        self._index.add_with_ids(vectors[good], rows[good])

    def close(self) -> None:
        """All is filled in: from now on rows are found by their number."""
        self._index.set_direct_map_type(self._faiss.DirectMap.Hashtable)

    def put(self, table: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        """Take these rows, no one twice, from the table, in place of what they were."""
        self._faiss.omp_set_num_threads(1)
        for begin in range(0, len(rows), CHUNK):
            some = rows[begin : begin + CHUNK]
            vectors = table[some]
            good = np.isfinite(vectors).all(axis=1)
            vectors, kept = np.ascontiguousarray(vectors[good]), some[good]
            lists = np.ascontiguousarray(self._coarse.assign(vectors, 1).ravel()) if len(kept) else kept
            pointers = [self._faiss.swig_ptr(array) for array in (vectors, kept, lists)]
            with self._gate.writing():
                self._index.remove_ids(some)
                if len(kept):
                    self._index.add_core(len(kept), *pointers)

    def drop(self, rows: npt.NDArray[np.int64]) -> None:
        """Take these rows out, those that are there."""
        for begin in range(0, len(rows), CHUNK):
            with self._gate.writing():
                self._index.remove_ids(rows[begin : begin + CHUNK])

    def shortlist(self, query: npt.NDArray[np.float32], count: int, probes: int) -> npt.NDArray[np.int64]:
        """At most `count` rows of the `probes` lists that lie nearest, those that score highest in half precision."""
        parameters = self._faiss.SearchParametersIVF(nprobe=probes)
        with self._gate.reading():
            _, found = self._index.search(query[None], count, params=parameters)
        rows: npt.NDArray[np.int64] = found[0]
        return rows[rows >= 0]


def _finite(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(vectors[np.isfinite(vectors).all(axis=1)])


def _faiss() -> Any:
    """Imported where it is used: it is an extra, and takes some tenths of a second."""
    import faiss

    return faiss
