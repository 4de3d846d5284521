"""Tables, pictures and pages that show a run to a person."""

from isosphere.report._checkpoints import checkpoint_tables
from isosphere.report._collapse import collapse_words
from isosphere.report._conditions import mixed
from isosphere.report._gallery import Card, Group, PairCards, gallery_html, gallery_page, pairs_page
from isosphere.report._maps import NOTES as MAP_NOTES
from isosphere.report._maps import MapKind, check_map, embed_plane
from isosphere.report._page import Embedded, Subject, report_page
from isosphere.report._pictures import data_uri, thumbnail
from isosphere.report._plots import loss_curves, neighbour_gallery
from isosphere.report._ranking import MEASURES, measure_words, ranking_table
from isosphere.report._style import COLOURS, INK, style
from isosphere.report._summary import evaluation_tables
from isosphere.report._tables import Cell, Layout, Row, Table, lay_out, model_words, number

__all__ = [
    "COLOURS",
    "INK",
    "MAP_NOTES",
    "MEASURES",
    "Card",
    "Cell",
    "Embedded",
    "Group",
    "Layout",
    "PairCards",
    "MapKind",
    "Row",
    "Subject",
    "Table",
    "check_map",
    "checkpoint_tables",
    "collapse_words",
    "data_uri",
    "embed_plane",
    "evaluation_tables",
    "gallery_html",
    "gallery_page",
    "lay_out",
    "loss_curves",
    "measure_words",
    "mixed",
    "model_words",
    "neighbour_gallery",
    "number",
    "ranking_table",
    "pairs_page",
    "report_page",
    "style",
    "thumbnail",
]
