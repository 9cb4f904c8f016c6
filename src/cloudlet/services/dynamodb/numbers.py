"""DynamoDB's numbers: 38 digits, 1E-130 to 9.99E+125, kept as plain texts, sorted as bytes."""

from __future__ import annotations

import re
from decimal import Context, Decimal

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.errors import invalid

DIGITS = 38
_LARGEST = 125
_SMALLEST = -130
_FORM = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?\Z")
# Wide enough that the sum of any two numbers is exact.
_EXACT = Context(prec=_LARGEST - _SMALLEST + DIGITS + 5)
_ZERO = b"\x80"
_POSITIVE = {power: bytes((0x81, power + 129)) for power in range(-129, 127)}
_NEGATIVE = {power: bytes((0x7F, 126 - power)) for power in range(-129, 127)}
_NEGATIVE_END = b"\xff"
_TURNED = bytes((254 - byte) & 0xFF for byte in range(256))  # never the end


def canonical(text: str) -> str:
    """The one text for a number: no exponent, no needless zero. Raises ValidationException."""
    if text.isdigit() and len(text) <= DIGITS and text.isascii() and (text[0] != "0" or text == "0"):
        return text
    whole, dot, fraction = text.removeprefix("-").partition(".")
    if (
        dot
        and whole.isdigit()
        and fraction.isdigit()
        and len(text) <= DIGITS
        and text.isascii()
        and (whole[0] != "0" or whole == "0")
        and fraction[-1] != "0"
    ):
        return text
    if not text:
        raise invalid("The parameter cannot be converted to a numeric value")
    match = _FORM.match(text)
    if match is None or not (match[2] or match[3]):
        raise invalid(f"The parameter cannot be converted to a numeric value: {text}")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    # A longer exponent is out of range whatever the digits are.
    power = int(exponent) if len(exponent) < 12 else (-(10**12) if exponent[0] == "-" else 10**12)
    point = len(whole) + power - (len(whole) + len(fraction) - len(digits))
    digits = digits.rstrip("0")
    if point - 1 > _LARGEST:
        raise overflow()
    if point - 1 < _SMALLEST:
        raise invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
    if len(digits) > DIGITS:
        raise invalid("Attempting to store more than 38 significant digits in a Number")
    if point <= 0:
        plain = f"0.{'0' * -point}{digits}"
    elif point >= len(digits):
        plain = digits + "0" * (point - len(digits))
    else:
        plain = f"{digits[:point]}.{digits[point:]}"
    return f"-{plain}" if sign == "-" else plain


def overflow() -> AwsError:
    """A number that is too large."""
    return invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")


def sort_key(number: str) -> bytes:
    """A canonical number as bytes whose order is the numbers' order: sign, power of ten, digits in pairs."""
    if number == "0":
        return _ZERO
    negative = number[0] == "-"
    whole, _, fraction = (number[1:] if negative else number).partition(".")
    if whole == "0":
        digits = fraction.lstrip("0")
        power = len(digits) - len(fraction)
    else:
        digits = whole + fraction
        power = len(whole)
    digits = digits.rstrip("0")
    pairs = bytes.fromhex(digits + "0" if len(digits) & 1 else digits)
    if negative:
        # The digits of a negative number are turned round, and a shorter one of them sorts after a longer one.
        return _NEGATIVE[power] + pairs.translate(_TURNED) + _NEGATIVE_END
    return _POSITIVE[power] + pairs


def size(number: str) -> int:
    """The bytes that DynamoDB counts for a canonical number."""
    digits = number.lstrip("-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + (number[0] == "-")


def add(left: str, right: str) -> str:
    """The sum of two canonical numbers. Raises ValidationException when it is no number of DynamoDB."""
    return _computed(_EXACT.add(Decimal(left), Decimal(right)))


def subtract(left: str, right: str) -> str:
    """The difference of two canonical numbers. Raises ValidationException when it is no number of DynamoDB."""
    return _computed(_EXACT.subtract(Decimal(left), Decimal(right)))


def _computed(number: Decimal) -> str:
    if len(number.normalize(_EXACT).as_tuple().digits) > DIGITS:
        raise overflow()  # so DynamoDB calls a result that takes too many digits, too
    return canonical(format(number, "f"))
