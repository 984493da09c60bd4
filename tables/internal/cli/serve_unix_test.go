package cli

import (
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/go-partd/partd/tables"
)

// On a Unix socket that others cannot open, clients are counted one by one, and may end the
// server; with --no-tail another process writes to the directory meanwhile.
func TestServeUnix(t *testing.T) {
	dir, err := os.MkdirTemp("", "partd") // a socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the test is over
	socket := filepath.Join(dir, "s")
	cmd, _ := serving(t, "--listen", (&url.URL{Scheme: "grpc+unix", Path: socket}).String(), "--no-tail", "--dir", filepath.Join(dir, "d"), "--max-connections", "2")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	store, err := tables.Open(t.Context(), filepath.Join(dir, "d"), &tables.Options{NoTail: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Bucket("b").ChangeMetadata(t.Context(), "", tables.MetadataChange{Set: tables.Metadata{"k": 1}}); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	act := func(c flight.Client, kind string) string {
		t.Helper()
		stream, err := c.DoAction(t.Context(), &flight.Action{Type: kind, Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		// A connection is idle once its call has ended.
		if _, err := stream.Recv(); err != io.EOF {
			t.Fatal(err)
		}
		return string(r.Body)
	}
	var clients []flight.Client
	for range 3 { // the third takes the place of one that is idle
		c, err := flight.NewClientWithMiddleware("unix://"+socket, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // the server notes the end a moment after the client
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // the server has ended
		if got := act(c, "buckets"); got != `["b"]` {
			t.Error(got)
		}
		clients = append(clients, c)
	}
	act(clients[2], "shutdown")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Error("the socket is still there:", err)
	}
}
