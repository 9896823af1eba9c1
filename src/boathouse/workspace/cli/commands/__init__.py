"The commands, one module per group: their options and help. What they do is in the modules of `cli`, imported when a command runs."
