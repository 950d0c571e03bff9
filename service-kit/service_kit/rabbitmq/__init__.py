"""The adapter of the broker port to RabbitMQ (AMQP 0-9-1)."""

from service_kit.rabbitmq.broker import RabbitBroker

__all__ = ["RabbitBroker"]
