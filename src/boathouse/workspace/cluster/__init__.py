"The cluster of one target, in this process or in the background."
