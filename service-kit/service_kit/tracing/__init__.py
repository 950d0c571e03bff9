"""OpenTelemetry traces: a port, what is traced through it, and the official SDK behind it.

Off (no tracer) until an OTLP endpoint is set; nothing of the SDK is loaded before.
"""
