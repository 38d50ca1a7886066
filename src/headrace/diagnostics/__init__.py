"""What users watch and extend a cluster with: plugins and progress. The core does without them."""
