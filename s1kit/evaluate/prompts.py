"""Asking for a length of thinking in the question itself: the paper's conditional controls (section 3.1, App. D.1).

A model follows such words only as far as it was trained to; what it makes of them is what `control` measures.
"""

from __future__ import annotations

from s1kit.evaluate.settings import CLASS_CONTROL, STEP_CONTROL, TOKEN_CONTROL
from s1kit.records import Setting

CLASSES = {
    "short": "Answer after a short amount of thinking. Do not spend excessive time double-checking your work.",
    "long": "Answer after a long amount of thinking. If you feel like you are finished early, spend the extra time "
    "trying to double-check your work until you are absolutely sure that you have the correct answer.",
}
"""The paper's two prompts."""


def instructed(question: str, setting: Setting) -> str:
    """The question with the setting's request for a length, if it makes one.

    >>> instructed("1 + 1?", Setting(method="token_control", target="64"))
    '1 + 1?\\nThink for up to 64 tokens.'
    """
    match setting.method:
        case method if method == TOKEN_CONTROL:
            return f"{question}\nThink for up to {setting.target} tokens."
        case method if method == STEP_CONTROL:
            return f"{question}\nThink for up to {setting.target} steps."
        case method if method == CLASS_CONTROL:
            return f"{question}\n{CLASSES[setting.target]}"
        case _:
            return question
