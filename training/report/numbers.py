"""Numbers as people read them."""


def percent(share: float, digits: int = 1) -> str:
    """A share as people read it: "1 %", "97.3 %"."""
    text = f"{100 * share:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def probability(value: float) -> str:
    """A probability with as many digits as tell it from 0 and 1: "0.53", "0.9991", "0.00012"."""
    for digits in range(2, 8):
        text = f"{value:.{digits}f}"
        if 0 < float(text) < 1 and abs(float(text) - value) <= 0.1 * min(value, 1 - value):
            return text
    return f"{value:.2g}"
