"Feature tables: define, refresh, look up, build training sets, report leaks and freshness."

from boathouse.features.definitions import ComputedFeatures, WindowedFeatures
from boathouse.features.freshness import FEATURE_REFRESHES, FeatureLimits, check_feature_limits, measure_freshness, record_refreshes
from boathouse.features.leak_report import LeakError, refuse_leaks, report_leaks
from boathouse.features.lookups import FeatureLookup
from boathouse.features.refresh import backfill, refresh_table
from boathouse.features.tables import versions_of
from boathouse.features.training_sets import FeatureFunction, FeatureSpec, Labels, TrainingSet, create_training_set, with_features

__all__ = [
    "ComputedFeatures",
    "FEATURE_REFRESHES",
    "FeatureFunction",
    "FeatureLimits",
    "FeatureLookup",
    "FeatureSpec",
    "Labels",
    "LeakError",
    "TrainingSet",
    "WindowedFeatures",
    "backfill",
    "check_feature_limits",
    "create_training_set",
    "measure_freshness",
    "record_refreshes",
    "refresh_table",
    "refuse_leaks",
    "report_leaks",
    "versions_of",
    "with_features",
]
