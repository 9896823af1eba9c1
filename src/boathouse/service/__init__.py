"The prediction service: MLflow's protocol over HTTP, versions that follow the registry, and the log of requests."

from boathouse.service.inference_log import InferenceLog, flush_at_exit, read_requests

__all__ = ["InferenceLog", "flush_at_exit", "read_requests"]
