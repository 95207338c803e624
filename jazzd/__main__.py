"""`python -m jazzd`, which is also how the player starts its engine."""

from jazzd.cli import main

if __name__ == "__main__":
    main()
