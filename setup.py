"""Packages of the distribution: all under src/, and conf/ as mtlsi_net.conf; pyproject.toml holds everything else."""

from setuptools import find_packages, setup

setup(packages=[*find_packages("src"), "mtlsi_net.conf"])
