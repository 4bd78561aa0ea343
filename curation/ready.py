"""What workers need before their first row. The process that they are forked from imports it once (see workers.py)."""

import gc

import pandas  # noqa: F401  # Arrow imports it where it is first given a list
from scipy import sparse  # noqa: F401

from . import engine, heads  # noqa: F401
from .checks.privacy import detectors

heads.load("prompts")
heads.load("responses")
detectors()
gc.collect()
gc.freeze()  # the workers share these pages as long as no collection writes to them
