"""Sample pairs written for this project, with planted flaws; `make.py` regenerates them."""
