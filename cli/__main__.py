"""python -m egt_tf_cli"""

from .main import cli

if __name__ == "__main__":
    cli(prog_name="egt-tf")
