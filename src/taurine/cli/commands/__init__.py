"""The commands of `taurine`, a file for each. `add_to` puts one under the program's name."""
