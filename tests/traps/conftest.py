"""Fixtures of other rooms that traps use, too."""

from resources.conftest import cache, open_folder, server, unreadable

__all__ = ["cache", "open_folder", "server", "unreadable"]
