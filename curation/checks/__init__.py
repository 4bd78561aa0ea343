"""The checks. Importing this package completes CHECKS and SIGNAL_UNITS."""

from . import (
    bias,
    consistency,
    contamination,
    diversity,
    duplicates,
    families,
    leaks,
    privacy,
    prompts,
    refusals,
    responses,
    semantic,
    standards,
    toxicity,
)
from .base import CHECKS, SIGNAL_UNITS, Unit

__all__ = [
    "CHECKS",
    "SIGNAL_UNITS",
    "Unit",
    "bias",
    "consistency",
    "contamination",
    "diversity",
    "duplicates",
    "families",
    "leaks",
    "privacy",
    "prompts",
    "refusals",
    "responses",
    "semantic",
    "standards",
    "toxicity",
]
