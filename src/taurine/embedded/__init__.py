"""A private Valkey server per directory, shared by the processes of one machine that use it.

The rules, which the modules of this package carry out:

**Who is who.** A *user* is one started `EmbeddedServer`. The *keeper* is a small detached process, one per directory
(`keeper.py`); the *server* is Valkey, the keeper's child. Keeper and server live in a session of their own, so a Ctrl-C
in a terminal reaches the users and not them.

**What is counted, and how.** Nothing is counted by process id, since a crash would make the count wrong. Four lock
files lie in the directory. Their locks are flocks, which belong to an open file description, so two users in one
process count as two, and the kernel lets go of each lock when its holder dies, however it dies.

| file          | held by                                                 | kind and length                  |
| ------------- | ------------------------------------------------------- | -------------------------------- |
| `users.lock`  | each user                                               | shared, from start to stop       |
|               | a keeper that found it free                             | exclusive, from there to its end |
| `start.lock`  | a user that joins, makes a keeper or leaves             | exclusive, for that step         |
| `keeper.lock` | the keeper; its maker takes the lock and hands it over  | exclusive, for the keeper's life |
| `server.lock` | the keeper and the server, on one file description      | exclusive, until both have ended |

**Start.** A user takes its share of `users.lock`; if `keeper.lock` is free, it takes that one and makes a keeper that
inherits it, so no second keeper can come between. It is started when the keeper has recorded a ready server in
`keeper.json` and that server answers. A share and a keeper's decision to end exclude each other: a user never gets a
server that is about to stop.

**Stop.** A user gives up its share. When that was the last, it rings the keeper's bell (`keeper.bell`, a FIFO) and
waits for the keeper to end. The keeper looks by itself every second as well, so a server whose users were all killed
ends about a second later, unless another user has come by then: that one simply shares it.

**Crashes.** A server that ends while it has users is started again by its keeper on the same data, after a pause that
doubles from 0.1 to 5 seconds while it keeps ending. A keeper that is killed takes its server along (on Linux by the
kernel's parent-death signal, which makes it a graceful shutdown); each user looks once a second, and the first to see
it makes a new keeper, on the same socket. A new keeper begins only when `server.lock` is free, telling a server that
was left behind to shut down: never two servers on one data set.

**Data.** Valkey's append-only file in `valkey/`, flushed to disk every second (`fsync="always"`: before each answer).
A stop flushes it. A file cut off by a crash is loaded up to its last whole command. Nothing is evicted.

**Access.** No TCP port; a unix socket with mode 0600. The directory is made with mode 0700. One that belongs to another
user, that its group or all users can write to, or that is a symbolic link, is refused. So is one below a directory that
all users can write to and that has no sticky bit, since anyone could put another in its place. The owners of the
directories above, and their groups, are trusted.
A unix socket's path may have about 100 bytes: for a deeper directory the socket lies in a private directory with a
random name among the temporary files, which `keeper.json` names and the keeper removes.

**Limits.** Unix only. The directory must lie on a local file system. If it is moved away or removed while in use, its
users keep their server until they leave, without a new keeper if that one is killed, and whoever starts on the old path
gets a server and data of their own; neither disturbs the other. A child made by `os.fork` without an exec keeps
its parent's share alive if the parent is killed, until the child ends too; it becomes a user of its own by starting.
"""

from __future__ import annotations

from taurine.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
