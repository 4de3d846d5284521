"""A run, and an adaptation of features, as steps of a scikit-learn pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isosphere.deploy import Layer
from isosphere.errors import UsageError
from isosphere.models import fit_adaptation
from isosphere.workflows._run import Run, load

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as missing:
    raise UsageError(
        "RunTransformer and FeatureAdapter need scikit-learn, which is not installed. Type: pip install scikit-learn"
    ) from missing


class RunTransformer(TransformerMixin, BaseEstimator):
    """Pictures to embeddings of a trained run: ``make_pipeline(RunTransformer("runs/a"), LogisticRegression())``.

    Args:
        run: folder of the run (read when first used), or the result of ``isosphere.load``.
        layer: one of ``isosphere.deploy.LAYERS``; None: the first that the run has.
        batch_size: images at a time.

    ``transform`` takes what ``Run.embed`` takes and gives float32 ``(n, d)``. Nothing is fitted. Pickles and
    clones hold the name of the folder, not the weights, when `run` is a name.
    """

    def __init__(
        self, run: "str | Path | Run", layer: Layer | str | None = None, batch_size: int = 256
    ) -> None:
        self.run = run
        self.layer = layer
        self.batch_size = batch_size

    def fit(self, X: Any = None, y: Any = None) -> "RunTransformer":
        """Check the parameters; the encoder is trained already."""
        self._loaded().check_output(self.layer)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embeddings, float32 ``(n, d)``."""
        return self._loaded().embed(X, layer=self.layer, batch_size=self.batch_size)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """``backbone0``, ``backbone1``, ..."""
        run, layer = self._loaded(), self._loaded().check_output(self.layer)
        black = torch.zeros((1, run.encoder.in_chans, run.canvas, run.canvas), dtype=torch.uint8)
        return np.array([f"{layer}{i}" for i in range(run.features(black, layer=layer).shape[1])], object)

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_cached"}

    def _loaded(self) -> Run:
        if isinstance(self.run, Run):
            return self.run
        cached = self.__dict__.get("_cached")
        if cached is None or cached[0] != str(self.run):
            cached = (str(self.run), load(self.run))
            self._cached = cached
        return cached[1]


class FeatureAdapter(TransformerMixin, BaseEstimator):
    """Features of any network, adapted to the images at hand: ``FeatureAdapter().fit(views).transform(features)``.

    Args: as of :func:`isosphere.models.fit_adaptation`; None is its own default.

    ``fit`` takes embeddings of views ``(V, n, p)`` and leaves ``adaptation_``
    (:class:`isosphere.models.Adaptation`); ``transform`` takes ``(m, p)`` and gives unit rows, float32 ``(m, p)``.
    """

    def __init__(
        self,
        shrinkage: float | None = None,
        strength: float | None = None,
        centring: float | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.strength = strength
        self.centring = centring

    def fit(self, X: Any, y: Any = None) -> "FeatureAdapter":
        """Fit to views of images, ``(V, n, p)``; labels are not looked at."""
        given = {name: value for name, value in self.get_params().items() if value is not None}
        self.adaptation_ = fit_adaptation(np.asarray(X), **given)
        self.n_features_in_ = self.adaptation_.dim
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Unit rows, float32 ``(m, p)``."""
        check_is_fitted(self)
        return self.adaptation_(np.asarray(X))

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[np.float32]:
        """Fit, then the views' mean directions as they are compared: ``(V, n, p)`` to ``(n, p)``."""
        return self.fit(X, y).transform(X)
