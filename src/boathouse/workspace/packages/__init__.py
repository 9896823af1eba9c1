"What tasks import: requirements, wheels, folders to install into."
