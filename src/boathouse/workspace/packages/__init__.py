"Install what tasks import: requirements, wheels, and the folders for them."
