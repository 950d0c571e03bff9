"""The console: a web page for whoever operates the services. It knows them by their HTTP APIs alone."""
