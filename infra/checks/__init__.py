"""Checks of infra/ against real engines; each is a program of its own."""
