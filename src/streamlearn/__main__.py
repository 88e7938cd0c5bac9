"""`python -m streamlearn`: the command line, for where the script is not on the path. It does nothing else."""

from .cli.main import app

app()
