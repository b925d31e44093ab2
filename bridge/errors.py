"""Every error that the bridge raises on purpose.

Each kind is a `BridgeError` *and* the built-in that Python users already catch, so both
`except BridgeError` and `except FileNotFoundError` work. A message names the argument, the rule, what was
received and the remedy. All of them can be rebuilt from their message alone, because Keras re-creates an
exception that leaves `Layer.call` to add the layer's name to it.
"""


class BridgeError(Exception):
    """Base of all errors that the bridge raises on purpose."""

    # AutoGraph, too, re-creates what leaves a `tf.function` while it is traced, but only where this is the `__init__`.
    __init__ = Exception.__init__


class ConfigError(BridgeError, ValueError):
    """A config, INI file or environment variable does not say which weights to use."""


class ResourceNotFoundError(BridgeError, FileNotFoundError):
    """A file that a config names is not there, or could not be fetched."""


class CheckpointError(BridgeError, ValueError):
    """`options.json` or `weights.hdf5` is not what ELMo needs, or the two do not belong together."""


class FeatureStoreError(BridgeError, ValueError):
    """A feature file is damaged or incomplete, or was made by another model or with other settings."""


class OutputError(BridgeError, OSError):
    """An output can't be written: the disk is full, or its folder is not there or not writable."""

    __init__ = OSError.__init__  # which reads `errno` and the path


class InputValueError(BridgeError, ValueError):
    """An input has the right type and a wrong shape or value."""


class InputTypeError(BridgeError, TypeError):
    """An input has the wrong type or dtype."""


class MissingDependencyError(BridgeError, ImportError):
    """A package that the bridge needs is missing or unusable."""


class ProcessError(BridgeError, RuntimeError):
    """An object is used where it can no longer work: in a forked child, or after its layer was deleted."""


class UnsupportedError(BridgeError, NotImplementedError):
    """A request that the bridge refuses because its result would be wrong."""
