"""`python -m photoproof`, the same as the command `photoproof`."""

from photoproof.command_line.cli import main

main()
