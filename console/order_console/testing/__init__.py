"""What tests of the console are made with; production code must not import it."""
