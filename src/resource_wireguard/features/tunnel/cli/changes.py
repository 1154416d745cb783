"""Changes of a tunnel in one word: 'mtu=1380,exit=yes', as the Vrooli contract passes execution options."""

from typing import Any

import click

_READERS: dict[str, click.ParamType[Any]] = {
    "port": click.INT,
    "mtu": click.INT,
    "endpoint": click.STRING,
    "exit": click.BOOL,
}
"""Bounds are the agent's to check; here only the kind of a value."""


class Changes(click.ParamType[dict[str, Any]]):
    """'NAME=VALUE,NAME=VALUE' as fields of tunnel.change."""

    name = "changes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The fields; a usage error names the word that is wrong."""
        changes = {}
        for word in value.split(",") if isinstance(value, str) else ():
            name, equals, text = word.strip().partition("=")
            if not equals or name not in _READERS:
                known = ", ".join(f"{known}=…" for known in _READERS)
                self.fail(f"'{word[:40]}' is not one of {known}", param, ctx)
            changes[name] = _READERS[name].convert(text, param, ctx)
        return changes
