"""What reports about errors show of settings."""

from __future__ import annotations

from config.reports import ReporterFilter


def test_passwords_are_hidden_wherever_they_are() -> None:
    """In URLs in lists in dictionaries, and where Django looks for them by their names."""
    layers = {"default": {"CONFIG": {"hosts": ["redis://:hunter2@a/0"], "symmetric_encryption_keys": ["hunter2"]}}}
    shown = ReporterFilter().cleanse_setting("CHANNEL_LAYERS", layers)
    assert shown["default"]["CONFIG"]["hosts"] == ["redis://:***@a/0"]
    assert "hunter2" not in repr(shown)
    assert "hunter2" not in repr(ReporterFilter().cleanse_setting("REALTIME", {"TOKEN_KEYS": ("hunter2",)}))
