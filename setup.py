"""Finds the packages. Everything else about the project is in pyproject.toml.

pyproject.toml can find packages in one folder only, and `configs/` lies beside `tts_infer/`.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["tts_infer", "tts_infer.*"]), "tts_infer.configs"])
