"""The commands of `order-processor` that talk to a deployment, each group in a file of its own.

Nothing here may load the services, and nothing at import the client: `--help` and completion are to be quick.
"""
