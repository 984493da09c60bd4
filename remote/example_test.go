package remote_test

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/remote"
)

// A server and its client, here in one process.
func Example() {
	ctx := context.Background()
	server, err := remote.NewServer(partd.NewDict(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := remote.Listen("tcp://127.0.0.1:0") // a free port
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()

	client, err := remote.Dial(ctx, remote.URL(listener.Addr()), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, word := range []string{"apple", "oak", "pear"} {
		if err := client.Append(ctx, partd.Entry{Key: "words", Value: []byte(word + " ")}); err != nil {
			fmt.Println(err)
		}
	}
	values, err := client.Get(ctx, "words")
	fmt.Printf("%q %v\n", values, err)

	fmt.Println(client.Close(), server.Shutdown(ctx), <-served)
	// Output:
	// ["apple oak pear "] <nil>
	// <nil> <nil> <nil>
}
