"""`python -m foveate`: the command line, for launchers that start a module (accelerate launch -m, torchrun -m)."""

from foveate.cli import app

if __name__ == "__main__":
    app(prog_name="foveate")
