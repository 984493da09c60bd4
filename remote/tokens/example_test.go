package tokens_test

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/remote/tokens"
)

// The server has one user, who may append but not read.
func ExampleNew() {
	ctx := context.Background()
	users, err := tokens.New(map[string]tokens.Grant{
		"a-secret-of-its-own": {User: "etl", Namespace: tokens.AllNamespaces, Rights: remote.RightAppend},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := remote.NewServer(partd.NewDict(), &remote.ServerOptions{Authorizer: users})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := remote.Listen("tcp://127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.Serve(ctx, listener) //nolint:errcheck // Shutdown makes it return
	defer server.Shutdown(ctx)     //nolint:errcheck // this is an example

	client, err := remote.Dial(ctx, remote.URL(listener.Addr()), &remote.ClientOptions{Token: "a-secret-of-its-own"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() //nolint:errcheck // this is an example
	fmt.Println(client.Append(ctx, partd.Entry{Key: "words", Value: []byte("oak")}))
	_, err = client.Get(ctx, "words")
	fmt.Println(err != nil)
	// Output:
	// <nil>
	// true
}
