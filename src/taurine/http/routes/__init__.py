"""The API's resources, one file each; each has a `router`, and `taurine.http.application` lists them."""
