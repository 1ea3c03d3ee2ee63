"""How a report writes numbers: decimals, shares, signs, ticks and time spans. Pure functions."""

from __future__ import annotations


def fixed(value: float | None, digits: int = 1) -> str:
    """A number with `digits` decimals and a true minus sign; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}%".replace("-", "−")


def signed(value: float | None, digits: int = 1) -> str:
    """A number with its sign, +0.0 for what rounds to zero; a dash for None."""
    if value is None:
        return "–"
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:+.{digits}f}".replace("-", "−")


def fixed_tick(value: float) -> str:
    """A tick or point of a reward or a length."""
    return f"{value:.4g}".replace("-", "−")


def percent_tick(value: float) -> str:
    """A tick or point of a share."""
    return f"{100 * value:.3g}%"


def short(value: float) -> str:
    """A number of any size, to three digits: `4.8e−6`, `0.0128`, `620`, `12,400`."""
    if value != 0 and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    return (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")


def probability(value: float | None) -> str:
    """A p value to four decimals, one below them as such; a dash for None."""
    return "<0.0001" if value is not None and value < 0.0001 else fixed(value, 4)


def counted_noun(count: int, noun: str) -> str:
    """A number with its noun: `1 scene`, `2 scenes`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """A time span in words: `41 s`, `12 min`, `2 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
