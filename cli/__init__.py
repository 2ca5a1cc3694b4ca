"""The command line of egt-tf, one file a command; installed as the package `egt_tf_cli`."""
