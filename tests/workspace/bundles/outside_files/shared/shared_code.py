"""Code that several bundles use."""


def doubled(n: int) -> int:
    "Twice n."
    return 2 * n
