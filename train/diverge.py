"""Whether a run still learns: the rule that stops one whose loss has gone up for good. No torch in here."""

from __future__ import annotations

import math

import numpy as np

#: Steps that are looked at together, so that neither one odd batch nor one spike counts.
SPAN = 16
#: Steps that are remembered.
HISTORY = 1024
#: A run has diverged when the loss of a whole span lies above RISE times the best span so far and NATS above it.
#: Trackers of single spikes (OLMo-core's SkipStepOptimizer: six deviations over 128 steps) leave a batch out; this asks for
#: a rise that stays. In 30 runs of `tiny` on the sample data (batches of 1, 4 and 16 rows, rates .001 to .3, two seeds each) the
#: worst span stood at 1.6 times the best one; all six runs at rate 3, a thousand times the usual one, were stopped at step 20.
RISE, NATS = 2.0, 1.0


def diverged(sums: np.ndarray, counts: np.ndarray, vocabulary: int) -> tuple[int, float, float] | None:
    """Return (place of the first step that was too high, loss of the last span, loss of the best span), or None.

    `sums`, `counts`: (n,) summed token loss in nats and trained tokens of consecutive steps. Both the mean token loss and
    the median of the steps must be above the bound, so that neither a spike nor a few odd batches is enough. The bound
    comes from the spans that share no step with the last one, and from the first step, under which nothing better than
    half of guessing (ln V / 2) is demanded: one batch may be easy by chance.
    """
    places = np.flatnonzero(counts > 0)
    if len(places) < SPAN:
        return None
    sums, counts = sums[places], counts[places]
    losses = sums / counts
    spans = np.lib.stride_tricks.sliding_window_view
    means = spans(sums, SPAN).sum(1) / spans(counts, SPAN).sum(1)
    best, bound = float(losses[0]), max(_above(float(losses[0])), math.log(vocabulary) / 2)
    before = means[:-SPAN]
    if len(before) and _above(float(before.min())) < bound:
        best = float(before.min())
        bound = _above(best)
    if means[-1] <= bound or np.median(losses[-SPAN:]) <= bound:
        return None
    low = np.flatnonzero(losses <= bound)
    first = min(int(low[-1]) + 1 if len(low) else 0, len(losses) - 1)
    return int(places[first]), float(means[-1]), best


def _above(loss: float) -> float:
    return max(RISE * loss, loss + NATS)
