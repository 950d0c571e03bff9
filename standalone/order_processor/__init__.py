"""Both services in one process, on embedded parts: the `order-processor` command."""
