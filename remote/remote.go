// Package remote shares one store between processes: a [Server] has the store,
// and a [Client] is a store that works on the server's.
//
//	server, err := remote.NewServer(store, nil)
//	listener, err := remote.Listen("tcp://127.0.0.1:7077")
//	go server.Serve(ctx, listener)
//
//	client, err := remote.Dial(ctx, "tcp://127.0.0.1:7077", nil)
//	err = client.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")})
//
// They speak ZeroMQ's ZMTP, and the server takes clients of Python's partd on
// the same port; docs/wire.md has the protocols byte by byte.
//
// # Exactly once
//
// Every change that a client makes is numbered, and sent again after a broken
// connection or a restart of the server until it is answered; the server applies
// it once. A store that keeps the numbers with its data ([partd.Applier]) does so
// across a restart of the server, too. For any other the server remembers them
// while it lives; after a restart a change that was not answered returns an error
// that wraps [partd.ErrUnknownOutcome]. So does Pop in any case, as what it took
// is kept for the client by the server.
//
// What only reads is asked again, too. A listing or a reader that was under way
// ends with an error that wraps [ErrLost].
package remote
