"""How fast it is: real servers, real processes, a load generator, and yardsticks beside each figure."""
