"Evaluate the alerts of a bundle: a query, a comparison, a state with its history, and notifications of its changes."
