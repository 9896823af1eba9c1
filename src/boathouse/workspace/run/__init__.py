"Runs of jobs: attempts, repair, cancellation, deployment of a bundle's resources."
