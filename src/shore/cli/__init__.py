"""Floor 5: the `shore` command. It asks brains and starts them; it decides nothing."""
