"""Who may use a cluster: the secret of its owner, the user at the other end of a socket, certificates made at start.

Knows no connections: `headrace.comm.opening` asks these for the proofs of a connection, `headrace.http` for those of
a request.
"""
