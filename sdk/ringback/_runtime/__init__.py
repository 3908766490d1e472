"""How a face runs the core: sockets, threads, the event loop, handlers, tracing."""
