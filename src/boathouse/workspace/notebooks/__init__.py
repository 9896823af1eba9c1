"The source of notebooks, in both formats, and their magics."
