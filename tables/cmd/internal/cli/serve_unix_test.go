package cli

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	must.Do(t, store.Bucket("b").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": 1}}))
	must.Do(t, store.Close())
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
	must.Do(t, cmd.Wait())
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Error("the socket still exists:", err)
	}
}

// TestServeModes checks that other users cannot read the files that a server creates, even if the umask would
// allow it. Commands must accept the URL that the server prints, which has an escaped character.
func TestServeModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	sockets := must.Get(os.MkdirTemp("", "partd socket"))(t)
	defer os.RemoveAll(sockets) //nolint:errcheck // the test has ended
	socket := url.URL{Scheme: "grpc+unix", Path: filepath.Join(sockets, "s")}
	cmd, url := startServer(t, "--listen", socket.String(), "--dir", dir)
	mustRun(t, "n\n1\n", "--server", url.String(), "put", "--mode", "append", "--format", "csv", "t", "-")
	mustRun(t, "n\n2\n", "--server", url.String(), "put", "--mode", "append", "--format", "csv", "t", "-")
	must.Do(t, cmd.Process.Signal(os.Interrupt)) // folds the rows into files
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

// TestServeShare checks that a shared server tells programs its URL, runs until the last one disconnects, and closes
// the last connection only after it has closed the directory.
func TestServeShare(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "partd") // the path of a socket must be short
	must.Do(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd, url := startServer(t, "--listen", "grpc+unix://"+filepath.Join(dir, "s"), "--share", filepath.Join(dir, "share"), "--dir", filepath.Join(dir, "d"))
	connect := func() (*net.UnixConn, *bufio.Reader) {
		c := must.Get(net.Dial("unix", filepath.Join(dir, "share")))(t)
		t.Cleanup(func() { _ = c.Close() })
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || line != url.String()+"\n" {
			t.Fatalf("first line = %q, error %v, want %s", line, err, url)
		}
		return c.(*net.UnixConn), r
	}
	first, firstReader := connect()
	last, lastReader := connect()
	must.Do(t, first.CloseWrite())
	if _, err := firstReader.ReadByte(); err != io.EOF {
		t.Errorf("read by the first program after it disconnected: error %v, want io.EOF, without a message", err)
	}
	must.Do(t, last.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if _, err := lastReader.ReadByte(); !os.IsTimeout(err) {
		t.Errorf("read by the last program: error %v, want a timeout, because the server still runs", err)
	}
	must.Do(t, last.SetReadDeadline(time.Time{}))
	must.Do(t, last.CloseWrite())
	if text, err := io.ReadAll(lastReader); err != nil || string(text) != "stopped\n" {
		t.Errorf("the last program read %q, error %v, want stopped", text, err)
	}
	store, err := tables.Open(t.Context(), filepath.Join(dir, "d"), nil)
	if err != nil {
		t.Fatalf("Open after the last connection was closed: %v", err)
	}
	must.Do(t, store.Close())
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server exited with %v, want 0", err)
	}
}

// TestShareFailed checks that the last program learns why the server failed while it stopped.
func TestShareFailed(t *testing.T) {
	dir, err := os.MkdirTemp("", "partd") // the path of a socket must be short
	must.Do(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd, _ := startServer(t, "--listen", "grpc+unix://"+filepath.Join(dir, "s"), "--share", filepath.Join(dir, "share"), "--dir", filepath.Join(dir, "d"))
	c := must.Get(net.Dial("unix", filepath.Join(dir, "share")))(t)
	defer c.Close() //nolint:errcheck // only read
	r := bufio.NewReader(c)
	must.Get(r.ReadString('\n'))(t)
	must.Do(t, os.RemoveAll(filepath.Join(dir, "d")))
	must.Do(t, c.(*net.UnixConn).CloseWrite())
	text, err := io.ReadAll(r)
	if exit := cmd.Wait(); err != nil || exit == nil || !strings.HasPrefix(string(text), "failed: ") {
		t.Errorf("the server exited with %v, and the last program read %q, error %v, want the reason of the failure", exit, text, err)
	}
}

// TestShareEnding checks that a program that connects after the last one has disconnected gets no URL.
func TestShareEnding(t *testing.T) {
	t.Parallel()
	dir := must.Get(os.MkdirTemp("", "partd"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := must.Get(listenShare(filepath.Join(dir, "share")))(t)
	s.isEnding = true
	late := must.Get(net.Dial("unix", filepath.Join(dir, "share")))(t)
	defer late.Close() //nolint:errcheck // only read
	s.wait(t.Context(), func(context.Context, net.Conn) { t.Error("the late program was served") })
	s.release("")
	if _, err := late.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: error %v, want io.EOF", err)
	}
}
