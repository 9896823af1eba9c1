"Learners, the integrity of a stored model, and scoring."
