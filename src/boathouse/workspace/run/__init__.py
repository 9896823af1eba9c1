"Run jobs: attempts, repairs, cancellation, and the deployment of a bundle's resources."
