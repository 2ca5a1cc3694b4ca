"""The model that comes with egt-tf, and images to try it with; installed as the package `egt_tf_models`."""
