"""How large are timm's networks, and how much do they compute? Writes the table behind ``isosphere list encoders``.

    python -m benchmarks.encoders [--out src/isosphere/models/encoders.csv]

Each network is built without weights and without a classifier, on torch's ``meta`` device: nothing is computed, and
multiplications are counted for one image of the size that it is made for. What cannot be counted so is left empty.
Names that the table has are not counted again. About ten minutes on one core.
"""

import csv
import logging
import warnings
from pathlib import Path

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.command import parser
from isosphere.models import SMALL_CONV, build_encoder, encoder_names

OUT = Path(__file__).parents[1] / "src" / "isosphere" / "models" / "encoders.csv"
COLUMNS = ("name", "image_size", "parameters", "multiplications")


def counted(name: str) -> tuple[str, object, object, object]:
    """A row of the table."""
    config = None if name == SMALL_CONV else timm.get_pretrained_cfg(name)
    shape = (3, 32, 32) if name == SMALL_CONV else (3, 224, 224) if config is None else config.input_size
    with torch.device("meta"):
        network = (
            build_encoder(name, image_size=32).backbone
            if name == SMALL_CONV
            else timm.create_model(name, num_classes=0)
        ).eval()
    parameters = sum(p.numel() for p in network.parameters())
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, *shape, device="meta"))
        multiplications: object = counter.get_total_flops() // 2
    except Exception:  # what a network does on a device without numbers is its own affair
        multiplications = ""
    return name, shape[-1], parameters, multiplications


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=OUT)
    out = options.parse_args().out
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    known = {}
    if out.exists():
        with out.open(newline="") as file:
            known = {row["name"]: tuple(row.values()) for row in csv.DictReader(file)}
    rows = [known.get(name) or counted(name) for name in encoder_names()]
    with out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)


if __name__ == "__main__":
    main()
