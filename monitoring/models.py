"""What the pages of the admin stand for: no tables, only names in the index and permissions.

A room has no row, for it is where its members are; nor has a broadcast, for it is not kept.
"""

from __future__ import annotations

from django.db import models


class Cluster(models.Model):
    """The page about all nodes."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = "cluster"
        verbose_name_plural = "cluster"


class Room(models.Model):
    """The pages about rooms."""

    name = models.CharField(primary_key=True, max_length=64)

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = (
            ("message_room", "Can send a message to a room"),
            ("remove_member", "Can take a member out of a room"),
        )

    def __str__(self) -> str:
        return self.name


class Broadcast(models.Model):
    """The page from which everybody is told something."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (("send_broadcast", "Can send a message to everybody"),)
        verbose_name = "broadcast"
        verbose_name_plural = "broadcast"
