"""Statistics of embeddings: pure functions of tensors, shared by training's monitor and by evaluation."""

from isosphere.statistics.within import within_share

__all__ = ["within_share"]
