"""Jobs that come back: what an application declares of them, their installing, and what operators ask of them."""
