"The local workspace: runs the jobs of a bundle on this machine."
