"""The checks. Importing this package completes CHECKS and SIGNAL_UNITS."""

from . import contamination, duplicates, families, leaks, privacy, prompts, refusals, responses, semantic, standards
from .base import CHECKS, SIGNAL_UNITS, Unit

__all__ = ["CHECKS", "SIGNAL_UNITS", "Unit", "contamination", "duplicates", "families", "leaks", "privacy",
           "prompts", "refusals", "responses", "semantic", "standards"]
