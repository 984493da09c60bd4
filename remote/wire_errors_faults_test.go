package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// failingStore is a store whose operations all return err.
type failingStore struct{ err error }

func (f failingStore) Append(context.Context, ...partd.Entry) error     { return f.err }
func (f failingStore) Get(context.Context, ...string) ([][]byte, error) { return nil, f.err }
func (f failingStore) Drop(context.Context) error                       { return f.err }
func (f failingStore) Check(context.Context) (partd.CheckResult, error) {
	return partd.CheckResult{}, f.err
}

func (f failingStore) Stat(context.Context) (partd.Stats, error)        { return partd.Stats{}, f.err }
func (f failingStore) Set(context.Context, string, []byte) error        { return f.err }
func (f failingStore) SetOnce(context.Context, string, []byte) error    { return f.err }
func (f failingStore) Delete(context.Context, ...string) error          { return f.err }
func (f failingStore) Pop(context.Context, ...string) ([][]byte, error) { return nil, f.err }

// TestStoreErrorsAreLogged checks that errors of the store are logged completely, but hide directories from peers.
func TestStoreErrorsAreLogged(t *testing.T) {
	ctx := t.Context()
	path := &fs.PathError{Op: "write", Path: "/secret/place/wal-0", Err: syscall.ENOSPC}
	causes := map[string]error{
		"path error":     path,
		"store error":    &partd.Error{Op: "append", Key: "k", HasKey: true, Path: "/secret/place", Err: path},
		"joined errors":  fmt.Errorf("x: %w", errors.Join(errors.New("y"), &partd.Error{Op: "append", Path: "/secret/place", Err: fmt.Errorf("writing /secret/place/%%sessions: %w", syscall.EIO)})),
		"link error":     &os.LinkError{Op: "rename", Old: "/secret/place/a", New: "/secret/elsewhere/b", Err: syscall.EACCES},
		"damage":         &partd.Error{Op: "get", Path: "/secret/place", Err: &partd.CorruptError{Path: "/secret/place/seg-1", Offset: 7, Err: errors.New("a bit")}},
		"chained server": &partd.Error{Op: "get", Path: "ipc:///secret/place/s.sock", Err: syscall.ECONNREFUSED},
	}
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			var log procs.Output
			_, url := serve(t, failingStore{cause}, &ServerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			c := dial(t, url, nil)
			_, getErr := c.Get(ctx, "k")
			_, popErr := c.Pop(ctx, "k")
			_, statErr := c.Stat(ctx)
			_, checkErr := c.Check(ctx)
			p := openPeer(t, url)
			p.send(message("append", "k", "v"))
			for label, err := range map[string]error{
				"append": c.Append(ctx, entry("k", "v")), "get": getErr, "pop": popErr, "stat": statErr, "verify": checkErr,
				"Python's append": errors.New(p.wantError()),
			} {
				if err == nil || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s = %v, want an error without the server's directories", label, err)
				}
			}
			p.send(message("get", "k"))
			p.wantClosed()
			for _, label := range []string{"operation=append", "operation=get", "operation=pop", "operation=stat", "command=append", "get from a Python client"} {
				isLogged := false
				for line := range strings.Lines(log.String()) {
					isLogged = isLogged || strings.Contains(line, label) && strings.Contains(line, "level=ERROR") && strings.Contains(line, "/secret/place")
				}
				if !isLogged {
					t.Errorf("the log lacks an error with %q and the path: %s", label, log.String())
				}
			}
		})
	}
	t.Run("mistakes of peers", func(t *testing.T) {
		var log procs.Output
		_, url := serve(t, partd.NewDict(), &ServerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		c := dial(t, url, nil)
		must.Fail(t, must.Err(c.Check(ctx)), errors.ErrUnsupported, "Check")
		if _, err := c.Apply(ctx, partd.Tag{Session: 1, Number: 1}, partd.Operation{}); !errors.Is(err, partd.ErrSessionExpired) {
			t.Errorf("Apply in an unknown session = %v, want ErrSessionExpired", err)
		}
		p := openPeer(t, url)
		for _, wrong := range [][]byte{message("append", "k"), message("close"), message("nonsense"), message("iset", strings.Repeat("k", 1<<17), "v")} {
			p.send(wrong)
			p.wantError()
		}
		if strings.Contains(log.String(), "ERROR") {
			t.Errorf("mistakes of peers were logged as errors: %s", log.String())
		}
	})
}
