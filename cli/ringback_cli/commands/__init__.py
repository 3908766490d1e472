"""The commands: one file for each command or group, named as it is."""
