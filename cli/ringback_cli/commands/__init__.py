"""The commands: one file for each command or group, with its name. CONTRIBUTING.md says how to add one."""
