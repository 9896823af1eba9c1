"Features for requests: an online store of the newest rows, and the completion of records by key."

from boathouse.online.request_features import complete_records
from boathouse.online.store import OnlineStore, forget, publish

__all__ = ["OnlineStore", "complete_records", "forget", "publish"]
