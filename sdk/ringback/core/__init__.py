"""The core of an endpoint: pending calls, registry, session and dispatch, without any I/O."""
