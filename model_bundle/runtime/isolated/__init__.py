"""A model in a child process, which may die without taking the worker along."""
