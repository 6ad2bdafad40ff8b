"""What the admin's lists can do to the rows that were chosen: each asks once more, with their number, before it acts.

An action needs a permission of its own, is carried out by the nodes (``realtime.api``), and leaves a line in the
admin's log for each row that it touched.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from realtime import api, rows
from realtime.exceptions import BackplaneUnavailable, RealtimeError
from realtime.protocol.closing import ordered_close

CHOSEN_MAX = 1_000
"""Rows that one action takes on: more are for ``disconnect(user=…)`` or a drain."""
AT_ONCE = 50
"""Orders under way at the same time."""

Act = Callable[[str, dict[str, Any]], Coroutine[Any, Any, int]]


class CloseForm(forms.Form):
    """With what a connection is closed."""

    code = forms.IntegerField(initial=1008, help_text="1000, 1001, 1008, 1012, 1013, or 3000 to 4999")
    reason = forms.CharField(required=False, max_length=123, initial="Disconnected by an operator")

    def clean(self) -> dict[str, Any] | None:
        """Code and reason must be ones that a client can be told."""
        found = super().clean() or {}
        try:
            if "code" in found and "reason" in found:
                ordered_close(found["code"], found["reason"])
        except RealtimeError as error:
            raise ValidationError(str(error)) from error
        return found


class MessageForm(forms.Form):
    """A message for clients: JSON, or plain words."""

    message = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}), help_text="JSON; anything else is sent as a text"
    )

    def clean_message(self) -> Any:
        """What the text says as JSON, else the text itself."""
        text = self.cleaned_data["message"]
        try:
            value = json.loads(text)
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            return text
        return value


class NothingForm(forms.Form):
    """An action that needs no words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """``name`` of the function in the admin, ``permission`` of the app, words for people, and what is done to each row:
    ``act(id, form's data)`` returns how many it found."""

    name: str
    permission: str
    label: str
    question: str
    done: str
    form: type[forms.Form]
    act: Act
    is_dangerous: bool = True


async def _disconnect(connection: str, data: dict[str, Any]) -> int:
    return (await api.adisconnect(connection=connection, code=data["code"], reason=data["reason"])).count


async def _message(connection: str, data: dict[str, Any]) -> int:
    await api.apublish_private(connection, data["message"])
    return 1


async def _mark_dead(node: str, data: dict[str, Any]) -> int:
    return await sync_to_async(rows.mark_dead)(node, time.time())


async def _drain(node: str, data: dict[str, Any]) -> int:
    return (await api.adrain(node)).count


DISCONNECT = Action(
    name="disconnect",
    permission="disconnect_connection",
    label="Disconnect",
    question="These connections will be closed",
    done="closed",
    form=CloseForm,
    act=_disconnect,
)
MESSAGE = Action(
    name="message",
    permission="message_connection",
    label="Send a private message",
    question="These connections will get a private message",
    done="told",
    form=MessageForm,
    act=_message,
    is_dangerous=False,
)
DRAIN = Action(
    name="drain",
    permission="drain_node",
    label="Drain",
    question="These nodes will send their clients elsewhere and stop, as on SIGTERM",
    done="draining",
    form=NothingForm,
    act=_drain,
)

MARK_DEAD = Action(
    name="mark_dead",
    permission="mark_dead_node",
    label="Mark dead",
    question="These nodes and all their connections will be written down as ended; one that lives comes back with its "
    "next heartbeat",
    done="marked dead",
    form=NothingForm,
    act=_mark_dead,
)


def may(request: HttpRequest, model: type[models.Model], permission: str) -> bool:
    """Whether the user has a permission of the model's application."""
    return request.user.has_perm(f"{model._meta.app_label}.{permission}")


def run_action(
    model_admin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any], action: Action
) -> HttpResponse | None:
    """Ask for confirmation, or act if it was given. None: back to the list."""
    chosen = list(queryset.order_by("pk")[: CHOSEN_MAX + 1])
    if not chosen or len(chosen) > CHOSEN_MAX:
        problem = "none of them is live" if not chosen else f"more than {CHOSEN_MAX:,} are too many for one action"
        model_admin.message_user(request, f"Nothing was done: {problem}.", messages.WARNING)
        return None
    form = action.form(request.POST if "confirmed" in request.POST else None)
    if "confirmed" not in request.POST or not form.is_valid():
        return _ask(model_admin, request, chosen, action, form)
    _carry_out(model_admin, request, chosen, action, form.cleaned_data)
    return None


def _ask(
    model_admin: admin.ModelAdmin[Any], request: HttpRequest, chosen: Sequence[Any], action: Action, form: forms.Form
) -> HttpResponse:
    options = model_admin.model._meta
    context = {
        **model_admin.admin_site.each_context(request),
        "title": action.label,
        "opts": options,
        "action": action,
        "form": form,
        "chosen": chosen,
        "count": len(chosen),
        "action_name": ACTION_CHECKBOX_NAME,
        "media": model_admin.media + form.media,
    }
    return TemplateResponse(request, "realtime/admin/confirm.html", context)


def _carry_out(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    chosen: Sequence[Any],
    action: Action,
    data: dict[str, Any],
) -> None:
    counts = async_to_sync(_each)([str(row.pk) for row in chosen], action, data)
    done = [row for row, count in zip(chosen, counts, strict=True) if count]
    failed = [count for count in counts if count is None]
    said = {key: value for key, value in data.items() if key != "message"}
    log_actions(request, done, f"{action.label}: {json.dumps(said)}" if said else f"{action.label}.")
    kind = str(model_admin.model._meta.verbose_name if len(done) == 1 else model_admin.model._meta.verbose_name_plural)
    level = messages.SUCCESS if len(done) == len(chosen) else messages.WARNING
    parts = [f"{len(done):,} {kind} {action.done}"]
    if missing := len(chosen) - len(done) - len(failed):
        parts.append(f"{missing:,} gone already")
    if failed:
        parts.append(f"{len(failed):,} not known: the backplane does not answer")
    model_admin.message_user(request, f"{'; '.join(parts)}.", level)


async def _each(ids: Sequence[str], action: Action, data: dict[str, Any]) -> list[int | None]:
    """How many each found; None where the backplane did not take the order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> int | None:
        async with places:
            try:
                return await action.act(key, data)
            except BackplaneUnavailable:
                return None

    return list(await asyncio.gather(*(one(key) for key in ids)))


def log_actions(request: HttpRequest, touched: Sequence[models.Model], words: str) -> None:
    """One line for each row in the admin's log."""
    if touched:
        user_id: Any = request.user.pk
        LogEntry.objects.log_actions(user_id=user_id, queryset=touched, action_flag=CHANGE, change_message=words)
