"""What the tests of `bridge.doctor` share with those of `bridge.resources`."""

from resources.conftest import open_folder, unreadable

__all__ = ["open_folder", "unreadable"]
