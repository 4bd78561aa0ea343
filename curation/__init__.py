"""Curate instruction data as the spec it is. The library face: Store, Spec, run_table, check, evaluate, export."""

from .checks import CHECKS
from .engine import check, run_table, spec_of
from .errors import CurationError
from .gate import apply_policy, evaluate
from .spec import Spec, load
from .store import Entry, Store

__all__ = ["CHECKS", "CurationError", "Entry", "Spec", "Store", "apply_policy", "check", "evaluate", "load", "run_table",
           "spec_of"]
