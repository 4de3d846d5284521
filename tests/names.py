"""Names of methods that the tests go through."""

from isosphere.methods import DISTILLATION, METHODS

FROM_VIEWS = [name for name in METHODS if name != DISTILLATION]
"""Methods that learn from views alone; distillation is given targets as well (tests/methods/test_distillation.py)."""
