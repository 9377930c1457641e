"""Loads damaged model texts one after the other, in a process of its own that a crash may take down.

Standard input: a pickle of (texts, rows). Standard output: one character a text: `r` refused by name, `s` scored as the
text itself says, `x` anything else. A text that takes more than five seconds ends the process with a traceback.
"""

import faulthandler
import pickle
import sys

import numpy as np
from scoring_models import oracle

from scoring import ModelTextError, ReferenceEngine, parse_model_text


def verdict(text: bytes, rows: np.ndarray) -> str:
    faulthandler.dump_traceback_later(5, exit=True)
    try:
        model = parse_model_text(text)
    except ModelTextError:
        return "r"
    scores = ReferenceEngine(model).score(rows)
    return "s" if np.isfinite(scores).all() and scores.tolist() == oracle(model, rows) else "x"


if __name__ == "__main__":
    texts, rows = pickle.load(sys.stdin.buffer)
    for text in texts:
        sys.stdout.write(verdict(text, rows))
        sys.stdout.flush()
