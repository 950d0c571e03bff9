"""A broker in memory that does to messages what RabbitMQ and the network may do."""
