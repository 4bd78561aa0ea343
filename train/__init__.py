"""Training, behavioural evaluation and the way back to the rows. Sits above `curation` and may be absent."""
