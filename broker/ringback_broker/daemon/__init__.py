"""The process: loop, sockets, signals, reloads, systemd, logs, descriptors, files."""
