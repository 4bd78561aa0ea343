"""The checks. Importing this package completes CHECKS and SIGNAL_UNITS."""

from . import duplicates, families, privacy, prompts, refusals, responses, standards
from .base import CHECKS, SIGNAL_UNITS, Unit

__all__ = ["CHECKS", "SIGNAL_UNITS", "Unit", "duplicates", "families", "privacy", "prompts", "refusals", "responses",
           "standards"]
