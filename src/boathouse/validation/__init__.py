"Gates that a candidate passes before it is promoted, and the evidence they judge."
