"""Rows for people: nodes, their samples, connections. Delivery never reads them; ``tracking`` writes them.

There are no foreign keys that the database enforces, because rows are written behind: a node's row may be
cleaned up before its connections' rows, and a user may be deleted between the connection and the write, or be
known to the issuer of a token alone. A row that comes late must not fail for that.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from realtime.conf import table_prefix

PREFIX = table_prefix()
"""Begins the names of all tables, indexes and constraints; migrations read the same setting."""


class NodeState(models.TextChoices):
    """What a node says of itself; only ``dead`` is said by others."""

    STARTING = "starting"
    READY = "ready"
    INTERRUPTED = "interrupted"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"
    DEAD = "dead"


ENDED_STATES = (NodeState.STOPPED, NodeState.DEAD)


class Node(models.Model):
    """One process that serves, or served, connections; a copy of its last heartbeat."""

    id = models.CharField(primary_key=True, max_length=64)
    address = models.CharField(max_length=255, blank=True)
    version = models.CharField(max_length=64, blank=True)
    started = models.DateTimeField()
    last_heartbeat = models.DateTimeField()
    state = models.CharField(max_length=16, choices=NodeState.choices)
    statistics = models.JSONField(default=dict, blank=True)
    health = models.JSONField(default=list, blank=True)

    class Meta:
        db_table = f"{PREFIX}node"
        default_permissions = ("view",)
        permissions = (("drain_node", "Can drain nodes"), ("mark_dead_node", "Can mark nodes dead"))
        indexes = (models.Index(fields=("state", "-last_heartbeat"), name=f"{PREFIX}node_state"),)

    def __str__(self) -> str:
        return self.id

    @property
    def is_live(self) -> bool:
        """Whether it has neither stopped nor died, as far as the row knows."""
        return self.state not in ENDED_STATES


class NodeSample(models.Model):
    """One point of a node's time series, for charts; at most one for each node and moment."""

    node = models.CharField(max_length=64)
    at = models.DateTimeField()
    statistics = models.JSONField(default=dict, blank=True)

    class Meta:
        db_table = f"{PREFIX}nodesample"
        default_permissions = ("view",)
        constraints = (models.UniqueConstraint(fields=("node", "at"), name=f"{PREFIX}sample_once"),)
        indexes = (models.Index(fields=("at",), name=f"{PREFIX}sample_at"),)

    def __str__(self) -> str:
        return f"{self.node} {self.at:%Y-%m-%d %H:%M:%S}"


class Connection(models.Model):
    """One accepted client on one node. Live while ``disconnected`` is empty.

    ``node`` is the id of a node whose row may be gone. ``user_label`` is who the credential said it was, and
    stays when the user is deleted. ``close_code`` is 1006 for an end without a close frame; ``close_reason`` is the
    server's, and empty when the client closed. Of a live connection ``last_seen`` and the figures are as old as
    TRACKING_REFRESH_SECONDS.
    """

    id = models.CharField(primary_key=True, max_length=96)
    node = models.CharField(max_length=64)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_constraint=False,
        db_index=False,  # the index by user below begins with it
        related_name=f"{PREFIX}connections",
    )
    user_label = models.CharField(max_length=150, blank=True, db_index=True)
    transport = models.CharField(max_length=16)
    remote_address = models.CharField(max_length=64, blank=True, db_index=True)
    user_agent = models.CharField(max_length=255, blank=True)
    path = models.CharField(max_length=255, blank=True)
    connected = models.DateTimeField()
    last_seen = models.DateTimeField()
    disconnected = models.DateTimeField(null=True, blank=True)
    close_code = models.PositiveIntegerField(null=True, blank=True)
    close_reason = models.CharField(max_length=123, blank=True)
    messages_in = models.BigIntegerField(default=0)
    messages_out = models.BigIntegerField(default=0)
    bytes_in = models.BigIntegerField(default=0)
    bytes_out = models.BigIntegerField(default=0)
    rooms = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = f"{PREFIX}connection"
        default_permissions = ("view",)
        permissions = (
            ("disconnect_connection", "Can disconnect connections"),
            ("message_connection", "Can send messages to connections"),
            ("broadcast", "Can publish to everybody"),
        )
        indexes = (
            models.Index(fields=("-connected", "-id"), name=f"{PREFIX}connection_newest"),
            models.Index(fields=("node", "-connected"), name=f"{PREFIX}connection_node"),
            models.Index(fields=("user", "-connected"), name=f"{PREFIX}connection_user"),
            models.Index(fields=("close_code", "-connected"), name=f"{PREFIX}connection_code"),
            models.Index(fields=("transport", "-connected"), name=f"{PREFIX}connection_transport"),
            models.Index(
                fields=("node", "-connected"),
                name=f"{PREFIX}connection_live",
                condition=Q(disconnected__isnull=True),
            ),
            models.Index(
                fields=("disconnected",),
                name=f"{PREFIX}connection_ended",
                condition=Q(disconnected__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def is_live(self) -> bool:
        """Whether it has not ended, as far as the row knows."""
        return self.disconnected is None
