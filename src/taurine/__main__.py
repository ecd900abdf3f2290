"""`python -m taurine` is the command `taurine`."""

from taurine.cli import main

if __name__ == "__main__":
    main()
