"""The HTTP side: metrics, health, the dashboard and its page."""
