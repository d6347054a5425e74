"""Where numbers, pictures and texts go: metrics.csv, TensorBoard, Weights & Biases."""
