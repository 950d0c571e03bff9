"""Both services on a RabbitMQ cluster and a replicated PostgreSQL, which lose a node each under load."""
