"""Whether a server is asked for streams: learned from what it refuses."""

from __future__ import annotations

from s1kit.providers.chat import Call, Problem, WireFormat

WITH_USAGE, PLAIN, NEVER = 2, 1, 0


class Streaming:
    """Streams are asked for until a server refuses them: first without the option that reports usage, then none at all.

    Mistral refuses `stream_options`; OpenAI streams some thinking models to verified organisations only.
    """

    def __init__(self, wire: WireFormat, is_wanted: bool) -> None:
        self._wire = wire
        self.level = WITH_USAGE if is_wanted else NEVER

    def apply(self, call: Call) -> tuple[Call, int]:
        """The call with the streaming options that this server accepts, and the level it was made at."""
        level = self.level
        if call.body.get("stream") is False:  # the user's own `extra`
            level = NEVER
        return (call, level) if level == NEVER else (self._wire.streamed(call, with_usage=level == WITH_USAGE), level)

    def is_refused(self, problem: Problem, level: int) -> bool:
        """Whether the server refused the streaming options; then the next call uses fewer."""
        if level == NEVER or problem.kind not in ("request", "key") or "stream" not in problem.text.lower():
            return False
        self.level = min(self.level, level - 1)
        return True
