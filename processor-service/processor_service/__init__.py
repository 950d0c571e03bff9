"""Decides about orders."""
