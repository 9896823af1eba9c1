"The command line `boathouse`."
