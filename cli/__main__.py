"""python -m egt_tf_cli"""

from .main import cli

cli(prog_name="egt-tf")
