"""The names of Databricks' module `databricks.feature_engineering`, so that a notebook changes one word: the package it imports from."""

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureFunction, FeatureSpec, TrainingSet
from boathouse.serving.client import FeatureEngineeringClient, FeatureTable

__all__ = ["FeatureEngineeringClient", "FeatureFunction", "FeatureLookup", "FeatureSpec", "FeatureTable", "TrainingSet"]
