"""Floor 4: thin shells around sockets, netlink and processes. They carry out; they do not decide."""
