"""Variational joint embedding: the bound, its factors and their densities."""

from isosphere.methods.vje._evidence import Posterior, StudentFactor, directional_factor, evidence_scores
from isosphere.methods.vje._likelihood import (
    diagonal_gaussian_kl,
    log_student_t,
    log_student_t_on_sphere,
    log_student_t_product,
    log_subdensity_constant,
)
from isosphere.methods.vje._vje import VJE

__all__ = [
    "VJE",
    "Posterior",
    "StudentFactor",
    "diagonal_gaussian_kl",
    "directional_factor",
    "evidence_scores",
    "log_student_t",
    "log_student_t_on_sphere",
    "log_student_t_product",
    "log_subdensity_constant",
]
