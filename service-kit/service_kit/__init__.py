"""What every event-driven service needs and no domain knows.

Pure ports and loops stand at the top; the folders below are the only importers of their drivers.
"""
