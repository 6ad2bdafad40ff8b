"""What Django shows of settings in reports about errors."""

from __future__ import annotations

from typing import Any

from django.views.debug import SafeExceptionReporterFilter

from realtime.logs import without_passwords


class ReporterFilter(SafeExceptionReporterFilter):
    """Django hides what is called a key, a token or a password; this one hides passwords inside URLs as well."""

    def cleanse_setting(self, key: str | int, value: Any) -> Any:
        """The value as it may be shown."""
        shown = super().cleanse_setting(key, value)
        return without_passwords(shown) if isinstance(shown, str) else shown
