// Package remote shares one store between processes: a [Server] owns the store, and a [Client] is a
// store that uses the server's store.
//
//	server, err := remote.NewServer(store, nil)
//	listener, err := remote.Listen("tcp://127.0.0.1:7077")
//	go server.Serve(ctx, listener)
//
//	client, err := remote.Dial(ctx, "tcp://127.0.0.1:7077", nil)
//	err = client.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")})
//
// Client and server speak ZMTP, ZeroMQ's protocol. The server accepts clients of Python's
// partd on the same port. docs/dev/wire.md describes the protocols byte by byte.
//
// # Exactly once
//
// A client numbers every change. After a broken connection or a server restart, it resends the
// change until the server answers, and the server applies the change once. If the store keeps the
// numbers with its data ([partd.Applier]), this also holds across server restarts. For other
// stores, the server remembers the numbers only while it runs: if it restarts before it answers a
// change, the change returns an error that wraps [partd.ErrUnknownOutcome]. A Pop then returns this
// error for any store, because the server keeps popped values for the client only in memory.
//
// After a broken connection, clients also resend requests that only read. But a listing or a
// reader in progress fails with an error that wraps [ErrLost].
//
// docs/dev/invariants.md in the repository lists what must hold (R1 to R8).
//
// # Experimental
//
// [Client.Namespaces], [Namespaces] and [NamespaceInfo] may change in any minor version. docs/versions.md says how the
// API is graded.
package remote
