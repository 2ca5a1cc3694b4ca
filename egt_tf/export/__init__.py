"""Runs as SavedModels for TensorFlow Serving: they classify, learn new classes and explain when served."""
