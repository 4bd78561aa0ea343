"""The three tables everything speaks: ROWS, FLAGS and SIGNALS, as Arrow schemas. No I/O, no logic."""

from __future__ import annotations

import pyarrow as pa

ROLES = ("system", "user", "assistant", "tool")
SEVERITIES = ("error", "warning", "info")
ACTIONS = ("drop", "fix", "review", "none")
FIELDS = ("instruction", "input", "response", "row")
VERDICTS = ("accept", "reject", "edit")
REFUSALS = ("comply", "refuse", "partial", "other_safe")

CODES = pa.dictionary(pa.int32(), pa.string())
MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

ROWS = pa.schema(
    [
        ("row", pa.int64()),  # position in this version of the table, from 0
        ("uid", pa.string()),  # content id (text.uid_of), "#k" appended for the k-th identical copy, k >= 1
        ("id", pa.string()),  # the user's own id, or the row number as text
        ("messages", MESSAGES),  # every turn, in order
        ("system", pa.string()),  # "" when there is none
        ("instruction", pa.string()),  # last user turn (Alpaca: without its input)
        ("input", pa.string()),  # Alpaca's input, else ""
        ("response", pa.string()),  # last assistant turn
        ("family", CODES),  # as given by the data; null when the data does not say
        ("source", CODES),  # name of the file or dataset it came from
        ("split", CODES),  # as given by the data; null when the data does not say
        ("meta", pa.string()),  # every other field, one JSON object; carried, never read
    ]
)

FLAGS = pa.schema(
    [
        ("row", pa.int64()),
        ("uid", pa.string()),
        ("check", CODES),
        ("severity", CODES),  # error | warning | info
        ("score", pa.float32()),  # [0, 1], 1 = certain; for dup.* the similarity
        ("field", CODES),  # instruction | input | response | row
        ("turn", pa.int16()),  # index into messages; -1 = the whole row
        ("start", pa.int32()),  # characters in `field`, null = no span
        ("end", pa.int32()),  # exclusive
        ("message", CODES),  # one sentence a reviewer can act on; many flags say the same
        ("related", pa.list_(pa.int64())),  # other rows it is about
        ("fix", pa.string()),  # proposed text for the whole of `field`, null = none
    ]
)

#: Every signal has a type of its own; row and uid lead each signal table.
SIGNALS: dict[str, pa.DataType] = {
    "family": pa.string(),  # spec family id, "" = unassigned
    "family_score": pa.float32(),  # [0, 1] confidence of the assignment, 1 = given by the data
    "refusal": pa.string(),  # comply | refuse | partial | other_safe
    "harm": pa.float32(),  # [0, 1]: how surely the prompt falls under a must-refuse category
    "harm_category": pa.string(),  # id in the spec's refusal policy, "" = none
    "constraints": pa.list_(pa.string()),  # IFEval ids of constraints stated in the prompt
    "n_chars": pa.int32(),  # characters of all turns
    "n_words": pa.int32(),  # white-space words of the response
    "language": pa.string(),
    "cluster": pa.int32(),
    "map_x": pa.float32(),  # place on the map of `curation map`: rows that ask for like things lie side by side
    "map_y": pa.float32(),
    "needs_context": pa.float32(),  # [0, 1]: how likely the task is too vague to do without a question
    "edge": pa.string(),  # edge case the prompt looks like (edges.KINDS), "" = none
    "identity": pa.list_(pa.string()),  # groups of people named in the row, as "axis:group"
    "judge": pa.float32(),  # [0, 1]: what a judge asked for by hand says of the row, null = not asked or not readable
    "judge_by": pa.string(),  # who that was and the hash of the question, "" = no score
    "train_loss_first": pa.float32(),
    "train_loss_last": pa.float32(),
    "loss_drop": pa.float32(),
    "forgotten": pa.int16(),  # times training had the row right and then had not
    "region": pa.string(),  # easy | ambiguous | hard | "": how training went with the row
}
