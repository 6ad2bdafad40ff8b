"""What a reply answers: an acknowledgement in a namespace, as the ``ref`` of a command."""

from __future__ import annotations

from dataclasses import dataclass

from realtime.protocol.messages import Ref
from realtime.protocol.names import MAIN_NAMESPACE


@dataclass(frozen=True, slots=True)
class Asked:
    """Where an event came from, and the number of the acknowledgement that it wants."""

    namespace: str
    ack: int | None

    @property
    def ref(self) -> str:
        """As the ``ref`` of a command."""
        return f"{'' if self.ack is None else self.ack}:{self.namespace}"

    @classmethod
    def of(cls, ref: Ref | None) -> Asked:
        """What ``ref`` says; nothing is an event of ``/`` without an acknowledgement."""
        number, separator, namespace = str(ref or "").partition(":")
        if not separator:
            return cls(MAIN_NAMESPACE, None)
        return cls(namespace, int(number) if number else None)
