"""The training of a method: configuration, loop, schedule, checkpoints, and the watch for failures."""

from isosphere.training.config import Config, known_keys, load_config, parse_config
from isosphere.training.fit import Summary, fit
from isosphere.training.monitor import Gauge, gauge, measure, verdict
from isosphere.training.precision import choose_precision, make_fabric
from isosphere.training.schedule import Plan, learning_rate_factor
from isosphere.training.ui import ConsoleReporter, Reporter, SilentReporter

__all__ = [
    "Config",
    "ConsoleReporter",
    "Gauge",
    "Plan",
    "Reporter",
    "SilentReporter",
    "Summary",
    "choose_precision",
    "fit",
    "gauge",
    "known_keys",
    "learning_rate_factor",
    "load_config",
    "make_fabric",
    "measure",
    "parse_config",
    "verdict",
]
