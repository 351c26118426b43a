"""What the gateway tells about itself: numbers for Prometheus and log lines without content."""
