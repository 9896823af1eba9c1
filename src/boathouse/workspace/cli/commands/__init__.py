"The commands, one module per group: their options and help. The work is in the modules beside, imported when a command runs."
