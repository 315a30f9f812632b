"""Official PyTorch checkpoints <-> this project's weights files, without PyTorch."""
