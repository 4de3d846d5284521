"""The training of a method: configuration, loop, schedule, checkpoints, and the watch for failures."""

from isosphere.training._bar import Bar, Pace
from isosphere.training._beginning import START
from isosphere.training._callbacks import Callback, Progress
from isosphere.training._checkpoint import (
    Position,
    load_checkpoint,
    load_method,
    read_position,
    require_same_run,
    save_checkpoint,
)
from isosphere.training._config import FLAGS, Config, describe_keys, known_keys, parse_config
from isosphere.training._defaults import resolve, settle_channels, settle_white
from isosphere.training._distributed import is_first, is_launched, launched, lost, meet, restarts
from isosphere.training._facts import ENOUGH, least_steps, lengthened
from isosphere.training._fit import fit
from isosphere.training._gradient import Differentiator, Step
from isosphere.training._hardware import (
    bf16_is_fast,
    choose_precision,
    device_is_there,
    explain_precision,
    keep_freed_memory,
    make_fabric,
    require_device,
)
from isosphere.training._interrupt import STOPPED_BY
from isosphere.training._launch import end_with_launcher, launch
from isosphere.training._meters import WARM_UP, StepTimer
from isosphere.training._monitor import (
    CollapseMetrics,
    Observation,
    Observer,
    collapse_metrics,
    hold_out,
    measure,
    more_spread,
    verdict,
)
from isosphere.training._reporting import (
    ConsoleReporter,
    Reporter,
    SilentReporter,
    contact_sheet,
    duration,
)
from isosphere.training._schedule import Plan, learning_rate_factor
from isosphere.training._settings import Preset, load_config, presets, read_preset
from isosphere.training._setup import (
    Parts,
    about_pixels,
    build,
    build_views,
    open_training_source,
    prepare,
    prepare_without_images,
    untrained,
)
from isosphere.training._state import Summary

__all__ = [
    "ENOUGH",
    "START",
    "FLAGS",
    "Bar",
    "Callback",
    "CollapseMetrics",
    "Config",
    "ConsoleReporter",
    "Differentiator",
    "Observation",
    "Observer",
    "Pace",
    "Parts",
    "Plan",
    "Position",
    "Preset",
    "Progress",
    "Reporter",
    "STOPPED_BY",
    "WARM_UP",
    "SilentReporter",
    "Step",
    "StepTimer",
    "Summary",
    "bf16_is_fast",
    "build",
    "about_pixels",
    "build_views",
    "choose_precision",
    "collapse_metrics",
    "contact_sheet",
    "describe_keys",
    "device_is_there",
    "duration",
    "end_with_launcher",
    "explain_precision",
    "fit",
    "hold_out",
    "is_first",
    "is_launched",
    "keep_freed_memory",
    "known_keys",
    "launch",
    "launched",
    "least_steps",
    "lengthened",
    "learning_rate_factor",
    "load_checkpoint",
    "load_config",
    "load_method",
    "lost",
    "make_fabric",
    "measure",
    "more_spread",
    "meet",
    "open_training_source",
    "parse_config",
    "prepare",
    "prepare_without_images",
    "presets",
    "read_position",
    "read_preset",
    "require_device",
    "require_same_run",
    "resolve",
    "restarts",
    "settle_channels",
    "settle_white",
    "save_checkpoint",
    "untrained",
    "verdict",
]
