"""What runs the system: Compose, Prometheus, Grafana; and the checks of it."""
