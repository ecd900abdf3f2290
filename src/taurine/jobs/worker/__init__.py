"""The worker of an application, in this process or in several."""
