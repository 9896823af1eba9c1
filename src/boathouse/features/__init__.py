"Feature tables: define, refresh, look up, build training sets, report leaks and freshness."
