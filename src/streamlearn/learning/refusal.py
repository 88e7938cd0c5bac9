"""Why a command cannot be carried out: what a learner answers with instead of doing it."""

from __future__ import annotations


class Refusal(Exception):
    """A command cannot be carried out: a stable reason and a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
