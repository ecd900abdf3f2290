"""`python -m taurine` is the command `taurine`."""

from taurine.cli import main

main()
