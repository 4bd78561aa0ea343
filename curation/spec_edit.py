"""Changes one option of a check in the text of a spec; comments, order and everything else stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from .errors import CurationError
from .spec import CheckSettings, Spec, parse


def with_option(text: str, check: str, option: str, value: Any, checks: Mapping[str, Any] | None = None) -> str:
    """Return the spec `text` with `checks.<check>.<option>` set to a number or truth value.

    Raises CurationError when the check is off, or when the text is written in a way (aliases, merged keys) in which the
    change would touch something else.
    """
    before = parse(text, checks=checks)
    if before.checks.get(check) == "off":
        raise CurationError(f"spec.yaml switches {check} off", f"take the line checks.{check}: off out first")
    if text and not text.endswith("\n"):
        text += "\n"
    start, end, put = _place(text, check, option, json.dumps(value))
    new = text[:start] + put + text[end:]
    by_hand = CurationError(
        f"checks.{check}.{option} cannot be set in this spec without touching something else",
        f"set it by hand: checks: {{{check}: {{{option}: {json.dumps(value)}}}}}",
    )
    try:
        after = parse(new, checks=checks)
    except CurationError as e:
        raise by_hand from e
    if after != _wanted(before, check, option, value):
        raise by_hand
    return new


def _wanted(spec: Spec, check: str, option: str, value: Any) -> Spec:
    """Return the spec with the option set, as data."""
    had = spec.checks.get(check)
    settings = had.model_dump(exclude_unset=True) if isinstance(had, CheckSettings) else {}
    made = CheckSettings.model_validate({**settings, option: value})
    return spec.model_copy(update={"checks": {**spec.checks, check: made}})


def _place(text: str, check: str, option: str, value: str) -> tuple[int, int, str]:
    """Return (start, end, text to put there) that sets the option."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pair = f"{option}: {value}"
    if root is None:
        return len(text), len(text), f"checks:\n  {check}: {{{pair}}}\n"
    whole = _value(root, "checks")
    if whole is None:
        put = f"checks:\n  {check}: {{{pair}}}\n"
        if not (isinstance(root, yaml.MappingNode) and root.flow_style):
            return len(text), len(text), put
        return _first(root, f"checks: {{{check}: {{{pair}}}}}")
    own = _value(whole, check)
    if own is None:
        return _first(whole, f"{check}: {{{pair}}}")
    old = _value(own, option)
    return _first(own, pair) if old is None else (old.start_mark.index, old.end_mark.index, value)


def _value(node: yaml.Node, name: str) -> yaml.Node | None:
    """Return the value of a key of a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _first(node: yaml.Node, pair: str) -> tuple[int, int, str]:
    """Return where a pair is put in as the first of a mapping, with what stands around it."""
    assert isinstance(node, yaml.MappingNode), f"a spec that was read has a mapping here, not {node.tag}"
    if node.flow_style:
        at = node.start_mark.index + 1
        return at, at, f"{pair}, " if node.value else pair
    at = node.value[0][0].start_mark.index
    return at, at, f"{pair}\n{' ' * node.value[0][0].start_mark.column}"
