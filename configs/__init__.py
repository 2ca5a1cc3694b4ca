"""Run configurations that come with egt-tf, as YAML files; installed as the package `egt_tf_configs`."""
