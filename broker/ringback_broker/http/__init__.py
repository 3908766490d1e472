"""HTTP: metrics, health, and the dashboard with its page."""
