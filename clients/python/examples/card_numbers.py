"""Payment card numbers in text: 13 to 19 digits, of an issuer's range, with the right check digit (Luhn).

Digits may be in groups, with up to three spaces, dots or dashes between two of them, and may be full-width or
Arabic-Indic. A number is made of whole groups: sixteen digits inside a longer unbroken row of digits are none, and
neither are digits on two lines. Work is bounded: TooMuch says that a text was not searched to its end.
"""

from __future__ import annotations

import re

_SEPARATORS = " \t.\\-\u00a0\u2007\u2009\u202f\u2010-\u2015\u2212"
_RUN = re.compile(f"[0-9](?:[{_SEPARATORS}]{{0,3}}[0-9]){{12,}}")
_GROUP = re.compile("[0-9]+")
# What does not show (NUL, soft hyphen, zero width) goes; digits of other scripts become ASCII.
_INVISIBLE = re.compile("[\0\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_FOREIGN_DIGIT = re.compile("[\uff10-\uff19\u0660-\u0669\u06f0-\u06f9]")
_SHORTEST, _LONGEST = 13, 19


class TooMuch(Exception):
    """The budget is used up before the text was searched to its end."""


class Budget:
    """How many combinations of groups one message may cost."""

    def __init__(self, steps: int = 5_000_000) -> None:
        self._left = steps

    def spend(self) -> None:
        """One step. Raises TooMuch."""
        self._left -= 1
        if self._left < 0:
            raise TooMuch("too many rows of digits")


def find(text: str, budget: Budget) -> int:
    """How many card numbers the text has. Raises TooMuch."""
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        text = _FOREIGN_DIGIT.sub(lambda digit: str(int(digit[0])), text)
    return sum(_in_run(run[0], budget) for run in _RUN.finditer(text))


def is_card_number(digits: str) -> bool:
    """Whether ASCII digits are of an issuer's range and length, and their check digit is right."""
    return _issued(digits) and _luhn(digits)


def _in_run(run: str, budget: Budget) -> int:
    groups = _GROUP.findall(run)
    found = first = 0
    while first < len(groups):
        last = _number_from(groups, first, budget) if groups[first][0] in "23456" else -1
        found += last >= 0
        first = max(first, last) + 1
    return found


def _number_from(groups: list[str], first: int, budget: Budget) -> int:
    """The index of the last group of a number that begins with this one, or -1."""
    digits = ""
    for index in range(first, len(groups)):
        budget.spend()
        if len(digits) + len(groups[index]) > _LONGEST:
            break
        digits += groups[index]
        if len(digits) >= _SHORTEST and is_card_number(digits):
            return index
    return -1


def _issued(digits: str) -> bool:
    length, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    return (
        (digits[0] == "4" and length in (13, 16, 19))  # Visa
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))  # Mastercard
        or (length == 15 and two in (34, 37))  # American Express
        or (length == 14 and (300 <= three <= 305 or two in (36, 38, 39)))  # Diners Club
        or (16 <= length <= 19 and (four == 6011 or 644 <= three <= 649 or two == 65))  # Discover
        or (16 <= length <= 19 and (3528 <= four <= 3589 or two == 62))  # JCB, UnionPay
        or (16 <= length <= 19 and (two == 50 or 56 <= two <= 58 or four in (6304, 6759)))  # Maestro
    )


def _luhn(digits: str) -> bool:
    doubled = "0246813579"
    total = sum(int(doubled[int(digit)]) for digit in digits[-2::-2]) + sum(map(int, digits[-1::-2]))
    return total % 10 == 0
