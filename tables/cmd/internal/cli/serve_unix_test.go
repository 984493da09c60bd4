package cli

import (
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestServeUnix checks that each client on a Unix socket counts as one connection, and that a client may stop the
// server. With --no-tail, another store must be able to write to the directory while the server runs.
func TestServeUnix(t *testing.T) {
	dir, err := os.MkdirTemp("", "partd") // the path of a socket must be short
	must.Do(t, err)
	defer os.RemoveAll(dir) //nolint:errcheck // the test has ended
	socket := filepath.Join(dir, "s")
	cmd, _ := startServer(t, "--listen", (&url.URL{Scheme: "grpc+unix", Path: socket}).String(), "--no-tail", "--dir", filepath.Join(dir, "d"), "--max-connections", "2")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", info, err)
	}
	store := must.Get(tables.Open(t.Context(), filepath.Join(dir, "d"), &tables.Options{NoTail: true}))(t)
	if err := store.Bucket("b").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": 1}}); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	call := func(c flight.Client, action string) string {
		t.Helper()
		stream := must.Get(c.DoAction(t.Context(), &flight.Action{Type: action, Body: []byte("{}")}))(t)
		r := must.Get(stream.Recv())(t)
		// A connection is idle after its call has ended.
		if _, err := stream.Recv(); err != io.EOF {
			t.Fatal(err)
		}
		return string(r.Body)
	}
	var clients []flight.Client
	for range 3 { // the third connection replaces an idle one
		c, err := flight.NewClientWithMiddleware("unix://"+socket, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // the server notices the end of a call slightly later than the client
		must.Do(t, err)
		defer c.Close() //nolint:errcheck // the server has stopped
		if got := call(c, "buckets"); got != `["b"]` {
			t.Errorf("buckets = %s, want b", got)
		}
		clients = append(clients, c)
	}
	call(clients[2], "shutdown")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Error("the socket still exists:", err)
	}
}

// TestServeModes checks that other users cannot read the files that a server creates, even if the umask would
// allow it.
func TestServeModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	cmd, url := startServer(t, "--listen", "grpc://localhost:0", "--dir", dir)
	mustRun(t, "n\n1\n", "--server", url.String(), "put", "--mode", "append", "--format", "csv", "t", "-")
	mustRun(t, "n\n2\n", "--server", url.String(), "put", "--mode", "append", "--format", "csv", "t", "-")
	if err := cmd.Process.Signal(os.Interrupt); err != nil { // folds the rows into files
		t.Fatal(err)
	}
	must.Do(t, cmd.Wait())
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s has the mode %v, want no access for other users", path, info.Mode())
		}
		n++
		return err
	})
	if err != nil || n < 10 {
		t.Errorf("checked %d files, want at least 10: %v", n, err)
	}
}
