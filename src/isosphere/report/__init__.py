"""Pictures and pages that show a run to a person."""

from isosphere.report.plots import loss_curves, neighbour_gallery

__all__ = ["loss_curves", "neighbour_gallery"]
