"""The instruments: health, metrics, alerts, traces."""
