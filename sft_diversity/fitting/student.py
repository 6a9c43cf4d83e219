"""Student's law; `scipy.special`, as `scipy.stats` takes ten times as long for one number."""

from __future__ import annotations


def p_value(t: float, df: int) -> float:
    """Return the two-sided p-value of a t with `df` degrees of freedom."""
    from scipy import special

    return float(2 * special.stdtr(df, -abs(t)))


def critical(confidence: float, df: int) -> float:
    """Return the |t| that is not exceeded with chance `confidence`."""
    from scipy import special

    return float(special.stdtrit(df, 0.5 + confidence / 2))
