"""What a realm is called in NATS: its bucket, and its subjects.

Everything is below two names, so that the permissions of a node are short: `ringback.REALM.>` and
`$KV.ringback-REALM.>`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RealmNames:
    """The names of a realm.

    Attributes:
        realm: its own name: letters, digits, "-" and "_".
    """

    realm: str

    @property
    def bucket(self) -> str:
        """The name of the bucket, as `nats kv ls` shows it."""
        return f"ringback-{self.realm}"

    @property
    def stream(self) -> str:
        """The name of the stream below the bucket."""
        return f"KV_{self.bucket}"

    @property
    def records(self) -> str:
        """What the subjects of records begin with."""
        return f"$KV.{self.bucket}."

    @property
    def changes(self) -> str:
        """What the subjects begin with on which NATS repeats each record that it has stored."""
        return f"ringback.{self.realm}.w."

    @property
    def info(self) -> str:
        """The subject of questions about the bucket."""
        return f"$JS.API.STREAM.INFO.{self.stream}"

    @property
    def read(self) -> str:
        """The subject on which a record is read."""
        return f"$JS.API.STREAM.MSG.GET.{self.stream}"

    def frames_to(self, node: str, boot: bytes) -> str:
        """Return the subject of frames to a node."""
        return f"ringback.{self.realm}.n.{node}.{boot.hex()}"

    def inbox_of(self, node: str) -> str:
        """Return what the subjects of answers to a node begin with."""
        return f"ringback.{self.realm}.i.{node}"
