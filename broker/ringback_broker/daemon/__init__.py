"""The process: the loop, signals, reloads, systemd, logs, descriptors, key files."""
