from setuptools import find_packages, setup

setup(
    name="table_writers",
    version="0.2.0",
    packages=find_packages(),
    entry_points={"packages": ["write=table_writers.main:write"]},
)
