"""The training of a method: configuration, loop, schedule, checkpoints, and the watch for failures."""

from isosphere.training.checkpoint import Position, load_checkpoint, require_same_run, save_checkpoint
from isosphere.training.config import Config, known_keys, parse_config
from isosphere.training.contact import contact_sheet
from isosphere.training.defaults import resolve
from isosphere.training.fit import Summary, fit
from isosphere.training.gradient import Differentiator
from isosphere.training.launch import launch
from isosphere.training.memory import keep_freed_memory
from isosphere.training.monitor import Gauge, gauge, measure, verdict
from isosphere.training.observe import Observation, Observer, hold_out
from isosphere.training.precision import choose_precision, make_fabric
from isosphere.training.preset import Preset, presets, read_preset
from isosphere.training.ranks import is_first, is_launched, launched
from isosphere.training.restore import Run, load_method, load_run, untrained
from isosphere.training.schedule import Plan, learning_rate_factor
from isosphere.training.settings import load_config
from isosphere.training.setup import (
    Parts,
    build,
    build_views,
    open_training_source,
    prepare,
    prepare_without_images,
)
from isosphere.training.ui import ConsoleReporter, Reporter, SilentReporter, duration, loss_line

__all__ = [
    "Config",
    "Differentiator",
    "ConsoleReporter",
    "Gauge",
    "Observation",
    "Observer",
    "Parts",
    "Plan",
    "Position",
    "Preset",
    "Reporter",
    "Run",
    "SilentReporter",
    "Summary",
    "build",
    "build_views",
    "choose_precision",
    "contact_sheet",
    "duration",
    "fit",
    "gauge",
    "hold_out",
    "is_first",
    "is_launched",
    "keep_freed_memory",
    "known_keys",
    "launch",
    "launched",
    "learning_rate_factor",
    "load_checkpoint",
    "load_config",
    "load_method",
    "load_run",
    "loss_line",
    "make_fabric",
    "measure",
    "open_training_source",
    "parse_config",
    "prepare",
    "prepare_without_images",
    "presets",
    "read_preset",
    "require_same_run",
    "resolve",
    "save_checkpoint",
    "untrained",
    "verdict",
]
