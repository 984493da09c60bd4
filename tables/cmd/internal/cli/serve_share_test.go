package cli

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

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
	s.ending = true
	late := must.Get(net.Dial("unix", filepath.Join(dir, "share")))(t)
	defer late.Close() //nolint:errcheck // only read
	s.wait(t.Context(), func(context.Context, net.Conn) { t.Error("the late program was served") })
	s.release("")
	if _, err := late.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: error %v, want io.EOF", err)
	}
}
