"""What operators see and do: dead letters, replays, the switch of consuming, the audit log."""
