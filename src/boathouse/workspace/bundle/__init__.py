"Read a bundle's files as one configuration: includes, targets, variables, presets."
