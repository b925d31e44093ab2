"""Arguments that can't be changed any more once a layer is made: `FixedArguments`."""

from __future__ import annotations

from typing import Any

from bridge.errors import UnsupportedError


class FixedArguments:
    """Refuses new values for the arguments of a layer that was made, where they would come too late.

    What was built or traced with the old value would keep it, and a saved model would say the new one.
    """

    _fixed_arguments: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed_arguments:
            raise UnsupportedError(
                f"`{name}` must be given when the {type(self).__name__} is made: a change would not reach what is "
                f"built and traced already. Received: {name} = {value!r:.80}. Make a new layer, with "
                f"`{type(self).__name__}.from_config({{**layer.get_config(), {name!r}: ...}})`, and give its model the "
                "weights of the old one with `set_weights`."
            )
        super().__setattr__(name, value)
