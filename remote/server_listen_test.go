package remote

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestURLs(t *testing.T) {
	for _, bad := range []string{
		"", "x", "tcp:", "tcp://", "tcp://host", "tcp://host:", "tcp://:80/x/y", "tcp://h:80/", "tls://h:80/..", "tcp://u@h:1", "ipc://", "ipc://%zz", "ipc://a%00b", "http://x:1", "TCP://x:1",
		"tls://h:1/n?token=hush", "tls://u:hush@h:1", "tls://u:hu/hush@h:1", "tcp://h:1?password=hush", "tls://h/x?token=hush",
	} {
		if err := CheckURL(bad); err == nil || !strings.Contains(err.Error(), "write ") || strings.Contains(err.Error(), "hush") {
			t.Errorf("CheckURL(%q) = %v, want an error that shows valid URLs, and no secret", bad, err)
		}
		if _, err := Listen(bad); err == nil {
			t.Errorf("Listen(%q) succeeded", bad)
		}
		if _, err := Dial(context.Background(), bad, nil); err == nil {
			t.Errorf("Dial(%q) succeeded", bad)
		}
	}
	for url, want := range map[string]address{
		"tcp://127.0.0.1:7077": {"tcp", "127.0.0.1:7077", "", false}, "tcp://*:1": {"tcp", ":1", "", false}, "tls://[::1]:2/a.b": {"tcp", "[::1]:2", "a.b", true},
		"ipc:///a/b%3F": {"unix", "/a/b?", "", false}, "ipc://relative": {"unix", "relative", "", false},
	} {
		if got, err := parseURL(url); got != want || err != nil {
			t.Errorf("parseURL(%q) = %v, %v, want %v", url, got, err, want)
		}
	}
}

// TestSocketFiles checks that Listen replaces a stale socket, but neither a socket in use nor a file.
func TestSocketFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "partd") // short: the length of a socket's path is limited
	must.Do(t, err)
	t.Cleanup(func() { must.Do(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "s")
	l := must.Get(Listen("ipc://" + path))(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := Listen("ipc://" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen on a socket in use = %v, want EADDRINUSE", err)
	}
	must.Do(t, l.(*unixListener).Listener.Close()) // leaves the socket file, as kill -9 does
	must.Get(os.Stat(path))(t)
	l = must.Get(Listen("ipc://" + path))(t)
	s := must.Get(NewServer(partd.NewDict(), nil))(t)
	go s.Serve(context.Background(), l)
	c := dial(t, URL(l.Addr()), nil)
	must.Do(t, c.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}))
	must.Do(t, c.Close())
	must.Do(t, s.Shutdown(context.Background()))
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Lstat of the socket after Shutdown = %v, want ErrNotExist", err)
	}
	l = must.Get(Listen("ipc://" + path))(t)
	must.Do(t, os.Rename(path, path+"2"))
	other := must.Get(Listen("ipc://" + path))(t)
	must.Do(t, l.Close())
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("Dial after closing the listener whose socket was replaced: %v", err)
	}
	must.Do(t, other.Close())
	must.Do(t, os.WriteFile(path, []byte("a file"), 0o600))
	if _, err := Listen("ipc://" + path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Listen on a file = %v, want an error", err)
	}
	if b, err := os.ReadFile(path); string(b) != "a file" {
		t.Errorf("Listen changed the file: %q, %v", b, err)
	}
}

// TestLockedDirectory checks that Listen does not wait forever for a directory that another process keeps locked.
func TestLockedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := must.Get(os.Open(dir))(t)
	defer f.Close()
	must.Do(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	done := make(chan error, 1)
	go func() {
		l, err := Listen("ipc://" + dir + "/s")
		if err == nil {
			err = l.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("Listen in a locked directory = %v, want EWOULDBLOCK", err)
		}
	case <-time.After(4 * lockTimeout):
		t.Error("Listen still waits for the lock after four times its time limit")
	}
}
