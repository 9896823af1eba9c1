"Files that land in a folder become rows of a bronze table, each file once."

from boathouse.ingest.files import INGESTED_FILES, IngestResult, bronze_of, ingest

__all__ = [
    "INGESTED_FILES",
    "IngestResult",
    "bronze_of",
    "ingest",
]
