"""The command `elmo-bridge`: a file a command, parsing only."""
