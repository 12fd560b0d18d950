"""`python -m photoproof`, the same as the command `photoproof`."""

from photoproof.cli import main

main()
