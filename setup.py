"""Everything is in pyproject.toml; this stub is what Dataflow's ``--setup_file ./setup.py`` asks for."""

from setuptools import setup

setup()
