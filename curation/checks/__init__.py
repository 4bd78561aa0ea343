"""The checks. Importing this package completes CHECKS and SIGNAL_UNITS."""

from . import (
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
)
from .base import CHECKS, SIGNAL_UNITS, Unit

__all__ = [
    "CHECKS",
    "SIGNAL_UNITS",
    "Unit",
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
]
