"Registered models: promotions, the manifest of what a model was made of, reproduction."

from boathouse.registry.manifest import LineageError, Manifest, log_manifest, pin_versions, read_manifest, retire
from boathouse.registry.promotions import (
    CHALLENGER,
    PROMOTIONS,
    RegistryError,
    alias_version,
    approve_version,
    challenge,
    champion_as_of,
    promote,
    read_events,
    register,
    reject,
    rollback,
    withdraw,
)
from boathouse.registry.reproduce import Reproduction, reproduce

__all__ = [
    "CHALLENGER",
    "LineageError",
    "Manifest",
    "PROMOTIONS",
    "RegistryError",
    "Reproduction",
    "alias_version",
    "approve_version",
    "challenge",
    "champion_as_of",
    "log_manifest",
    "pin_versions",
    "promote",
    "read_events",
    "read_manifest",
    "register",
    "reject",
    "reproduce",
    "retire",
    "rollback",
    "withdraw",
]
