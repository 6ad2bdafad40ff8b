"""The permissions of a project, for nodes of the tests."""

from __future__ import annotations

from realtime.permissions import Caller, Forbidden, Permissions, Rule, authenticated


class ShopPermissions(Permissions):
    """`/custom` is for users; everybody in it may speak to all in it. There is one private room there, for reading."""

    rules = (
        Rule("private-prices", join=authenticated, namespace="/custom"),
        Rule("reading-*", join=True),
    )

    async def may_connect(self, caller: Caller, namespace: str) -> bool:
        if caller.user == "13":
            raise Forbidden("Not you.")
        return namespace == "/" or not caller.is_anonymous

    def may_broadcast(self, caller: Caller, namespace: str) -> bool:
        return namespace == "/custom"

    def may_send_private(self, caller: Caller, to: str) -> bool:
        return bool(1 / (to != "user:0"))
