// Package remote shares one store between processes: a [Server] owns the
// store, and a [Client] is a store that works on the server's.
//
//	server, err := remote.NewServer(store, nil)
//	listener, err := remote.Listen("tcp://127.0.0.1:7077")
//	go server.Serve(ctx, listener)
//
//	client, err := remote.Dial(ctx, "tcp://127.0.0.1:7077", nil)
//	err = client.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")})
//
// They speak ZeroMQ's ZMTP. The server accepts clients of Python's partd on
// the same port. docs/wire.md describes the protocols byte by byte.
//
// # Exactly once
//
// A client numbers every change, and resends it after a broken connection or a
// server restart until the server answers; the server applies it once. With a
// store that keeps the numbers with its data ([partd.Applier]), this also holds
// across server restarts. For any other store the server remembers the numbers
// only while it runs: after a restart, a change without an answer returns an
// error that wraps [partd.ErrUnknownOutcome]. So does Pop with any store, since
// it is the server that keeps the popped values for the client.
//
// Clients also resend requests that only read. A listing or a reader in
// progress ends with an error that wraps [ErrLost].
package remote
