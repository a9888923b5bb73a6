"""The report of finished runs: figures, tables and films on one page."""

# Steps of each network in a film, which are ten seconds of an Atari game.
FILM_STEPS = 150
