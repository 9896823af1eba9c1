"Start the jobs of a bundle as the platform does: by schedule, period, new files, table updates, model events, and continuously."
