"""What a classifier answers, whether it was loaded here or asked at a server."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answer:
    """One batch's results, each `(batch,)`.

    Attributes:
        probability: float32; NaN where the input cannot be an ECG.
        positive: bool, whether the probability reaches the export's threshold.
        input_ok: bool, whether the input can be an ECG.
    """

    probability: np.ndarray
    positive: np.ndarray
    input_ok: np.ndarray
