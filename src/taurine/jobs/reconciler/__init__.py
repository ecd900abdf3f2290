"""The loops that keep the promises true while nobody asks."""
