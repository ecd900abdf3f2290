"""What the tests stand on: real servers, Node, a faulty network, and a record of what happened."""
