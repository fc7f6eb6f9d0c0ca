"""What is secret: names of variables and arguments that hold one, and a mask over their values wherever a run tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

#: Names of environment variables, and of arguments, that hold a secret; the Helm chart has the same ones.
NAMES = (
    "SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS$|_PWD$|TOKEN$|(ACCESS|API|AUTH)_?TOKENS$|_KEY$"
    "|(API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING)_?KEYS?$|(GITHUB|GITLAB|GH)_PAT$|CONNECTION_STRING$"
)
_NAME = re.compile(NAMES, re.IGNORECASE)
#: The shortest value that is masked: `1`, `true` and `none` stand in every log, and guard nothing.
SHORTEST = 6
STARS = "***"


def is_secret(name: str) -> bool:
    """Whether an environment variable or argument of that name holds a secret."""
    return bool(_NAME.search(name))


def secret_values(value: Any, secret: bool = False) -> Iterator[str]:
    """The texts and whole numbers below names that say that they are secret, however deep in a JSON value."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from secret_values(part, secret or is_secret(str(name)))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from secret_values(part, secret)
    elif secret and _can_be_secret(value):
        yield str(value)


def option_values(words: Sequence[str]) -> Iterator[str]:
    """The values of a command's options whose names say that they are secret: `--api-key VALUE`, `--api-key=VALUE`.

    What begins with `--` is no value but the next option: that before it has none, such as `--use-token`.
    """
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("-") and is_secret(name.lstrip("-").replace("-", "_")):
            yield value if equals else "" if following.startswith("--") else following


def without_secrets(value: Any, secret: bool = False) -> Any:
    """`value` with stars in the place of each of its `secret_values`."""
    if isinstance(value, Mapping):
        return {name: without_secrets(part, secret or is_secret(str(name))) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(part, secret) for part in value]
    return STARS if secret and _can_be_secret(value) else value


def _can_be_secret(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Mask:
    """Puts `***` in the place of secrets.

    Attributes:
        values: what to look for, the longest first, so that no part of a longer secret stays.
    """

    values: tuple[str, ...] = ()

    @classmethod
    def over(cls, secrets: Iterable[str]) -> Mask:
        """A mask over `secrets`: over each line of them, and as URIs write them; short ones are left alone."""
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        forms = {form for line in lines for form in (line, quote(line, safe=""), unquote(line))}
        return cls(
            tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))
        )

    def text(self, text: str) -> str:
        """`text` without secrets."""
        for value in self.values:  # a search for one string is many times faster than an expression of all
            if value in text:
                text = text.replace(value, STARS)
        return text

    def data(self, value: Any) -> Any:
        """A JSON value whose strings are without secrets; its keys stay."""
        if not self.values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.data(part) for name, part in value.items()}
        return [self.data(part) for part in value] if isinstance(value, list | tuple) else value
