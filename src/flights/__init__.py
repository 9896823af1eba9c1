"The worked use case: will a flight that leaves New York arrive late?"
