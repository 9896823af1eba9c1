"Notify people and services about runs: settings, the outbox in the history, mail and webhooks."
