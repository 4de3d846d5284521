"""Pictures and pages that show a run to a person."""

from isosphere.report.gallery import Card, Group, gallery_page
from isosphere.report.page import Looked, Subject, report_page
from isosphere.report.pictures import data_uri, thumbnail
from isosphere.report.plots import loss_curves, neighbour_gallery

__all__ = [
    "Card",
    "Group",
    "Looked",
    "Subject",
    "data_uri",
    "gallery_page",
    "loss_curves",
    "neighbour_gallery",
    "report_page",
    "thumbnail",
]
