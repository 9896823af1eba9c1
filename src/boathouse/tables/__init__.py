"Delta tables with a declared contract: create, read, write, compare versions, pin, maintain."
