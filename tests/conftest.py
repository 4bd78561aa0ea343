"""What tests of several files ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def hearing() -> Iterator[None]:
    """Interrupts raise KeyboardInterrupt, though the tests may run in a shell's background, which is born deaf to them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
