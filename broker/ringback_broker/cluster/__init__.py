"""A realm: several brokers that act as one switchboard. Pure; `nats` is around it."""
