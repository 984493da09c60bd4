package serving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// newCore returns a Core for a store in a directory with characters that some errors escape, and with a symbolic link
// in its path.
func newCore(t *testing.T) (_ *Core, dir, resolved string) {
	t.Helper()
	parent := t.TempDir()
	must.Do(t, os.Mkdir(filepath.Join(parent, "target"), 0o700))
	if err := os.Symlink("target", filepath.Join(parent, "link")); err != nil {
		t.Skip("symbolic links cannot be created:", err)
	}
	dir = filepath.Join(parent, "link", `a "table" für é`)
	store := must.Get(tables.Open(t.Context(), dir, nil))(t)
	t.Cleanup(func() { _ = store.Close() })
	s := must.Get(New(store, &Options{BackupDir: filepath.Join(parent, "link", "backups")}))(t)
	resolved = must.Get(filepath.EvalSymlinks(dir))(t)
	return s, dir, resolved
}

// TestWithoutPaths checks that no path of the server is left in an error, whatever the error's type, the spelling of
// the path, and the text around it.
func TestWithoutPaths(t *testing.T) {
	s, dir, resolved := newCore(t)
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	other := "/var/elsewhere/secret" // not below a directory that the server knows
	errs := map[string]error{
		"PathError": &fs.PathError{Op: "open", Path: other, Err: syscall.EIO}, "LinkError": &os.LinkError{Op: "rename", Old: other, New: other + "/2", Err: syscall.EIO},
		"exec":                &exec.Error{Name: other, Err: exec.ErrNotFound},
		"exec in a directory": errors.Join(&fs.PathError{Op: "open", Path: filepath.Dir(other), Err: syscall.EIO}, &exec.Error{Name: other, Err: exec.ErrNotFound}),
		"partd":               &partd.Error{Op: "append", Path: other, Err: syscall.EIO}, "corrupt": &partd.CorruptError{Path: other, Err: syscall.EIO},
		"backup":       fmt.Errorf("tables: open %s/monday: failed", s.opts.BackupDir),
		"SyscallError": fmt.Errorf("%s: %w", dir, os.NewSyscallError("write", syscall.EIO)),
	}
	for name, path := range map[string]string{"dir": dir, "file": filepath.Join(dir, "data", "1.parquet"), "resolved": resolved, "temp": filepath.Join(os.TempDir(), "x"), "home": filepath.Join(home, ".duckdb", "x")} {
		for how, text := range map[string]string{
			"plain": "write %s: failed", "quoted": `Cannot open file "%s": no such file`, "url": "open file://%s: failed", "twice": "%[1]s %[1]s,%[1]s", "end": "cannot read %s", "start": "%s failed", "equals": "(path=%s)", "colon": "IO error:%s",
		} {
			errs[name+" "+how] = fmt.Errorf(text, path)
			errs[name+" "+how+" in SQL"] = &sqltext.Error{Line: 1, Column: 2, Err: fmt.Errorf(text, path)}
		}
		errs[name+" Go"] = fmt.Errorf("open %q: failed", path)
		errs[name+" escaped"] = errors.New("open file://" + (&url.URL{Path: path}).EscapedPath())
	}
	for i := range len(other) + 10 {
		errs[fmt.Sprint("cut ", i)] = fmt.Errorf("%s %w", strings.Repeat("x", 1<<10-i), &fs.PathError{Op: "open", Path: other, Err: syscall.EIO})
	}
	for name, err := range errs {
		for how, err := range map[string]error{"": err, " wrapped": fmt.Errorf("tables: put: %w", errors.Join(errors.New("first"), err)), " with status": Status(fmt.Errorf("tables: put: %w", err))} {
			text := s.WithoutPaths(status.Convert(err).Message(), err)
			for _, path := range []string{dir, resolved, other, home, os.TempDir(), filepath.Base(dir), strconv.Quote(dir)[1:20], "/else", "secret", "%22table", "backups"} {
				if strings.Contains(text, path) {
					t.Errorf("%s%s: %q contains %q", name, how, text, path)
				}
			}
		}
	}
	for _, text := range []string{"line 1: no column /x", "division a/b", "see https://example.org" + dir, "a" + os.TempDir() + "b", "field .." + os.TempDir() + "0"} {
		if got := s.WithoutPaths(text, errors.New(text)); got != text {
			t.Errorf("WithoutPaths(%q) = %q, want no change", text, got)
		}
	}
}

type sqliteFull struct{ error }

func (sqliteFull) Code() int { return 13 | 1<<8 }

// TestDiskFullStatus checks the code of errors that mean a full disk. An unknown outcome stays one, because the change
// may have been applied.
func TestDiskFullStatus(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/x/y", Err: syscall.ENOSPC}
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{full, codes.ResourceExhausted},
		{fmt.Errorf("a: %w", syscall.EDQUOT), codes.ResourceExhausted},
		{fmt.Errorf("a: %w", sqliteFull{errors.New("database or disk is full")}), codes.ResourceExhausted},
		{&tables.SQLError{Line: 1, Err: full}, codes.ResourceExhausted},
		{&sqltext.Error{Err: &sqltext.CausedError{Text: "IO error: no space", Causes: []error{syscall.ENOSPC}}}, codes.ResourceExhausted},
		{fmt.Errorf("%w: %w", tables.ErrDamaged, full), codes.ResourceExhausted},
		{fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, full), codes.Unknown},
		{&tables.SQLError{Line: 1, Err: errors.New("no space left on device")}, codes.InvalidArgument}, // the text of a client
		{&tables.SQLError{Line: 1, Err: fmt.Errorf("plan: %w", &fs.PathError{Op: "access", Path: "catalog.db", Err: syscall.EIO})}, codes.Internal},
		{&fs.PathError{Op: "write", Path: "/x/y", Err: syscall.EIO}, codes.Internal},
		{context.Canceled, codes.Canceled},
	} {
		if got := Status(c.err); status.Code(got) != c.want || !errors.Is(got, c.err) {
			t.Errorf("Status(%v) = %v with code %v, want %v and the same cause", c.err, got, status.Code(got), c.want)
		}
	}
}

// failingTail is a tail's store. The operation with the given name fails.
type failingTail struct {
	*partd.Dict
	operation string
	err       error
}

func (f *failingTail) fail(operation string, do func() error) error {
	if operation == f.operation {
		return f.err
	}
	return do()
}

func (f *failingTail) Append(ctx context.Context, entries ...partd.Entry) error {
	return f.fail("append", func() error { return f.Dict.Append(ctx, entries...) })
}

func (f *failingTail) Sync(context.Context) error { return f.fail("sync", func() error { return nil }) }

func (f *failingTail) Delete(ctx context.Context, keys ...string) error {
	return f.fail("delete", func() error { return f.Dict.Delete(ctx, keys...) })
}

// TestReadyAfterFailedTail checks that a server is not ready if its tail refuses all further writes, whichever
// operation finds this out, and that it stays ready if only one write failed.
func TestReadyAfterFailedTail(t *testing.T) {
	for _, operation := range []string{"append", "sync", "delete"} {
		tail := &failingTail{Dict: partd.NewDict()}
		store := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Sync: true, Tail: tail, FoldAge: -1}))(t)
		t.Cleanup(func() { _ = store.Close() })
		s := must.Get(New(store, &Options{}))(t)
		change := func() error {
			_, err := store.Bucket("").Table("t").Put(t.Context(), tabletest.Rows(1), tables.PutAppend, nil)
			_, foldErr := store.Fold(t.Context(), nil)
			return errors.Join(err, foldErr)
		}
		must.Do(t, errors.Join(change(), s.Ready()))
		tail.operation = operation
		tail.err = &fs.PathError{Op: operation, Path: "/srv/tail/wal-0", Err: syscall.EIO}
		must.Fail(t, change(), syscall.EIO, "a change whose %s fails", operation)
		must.Do(t, s.Ready())
		tail.err = fmt.Errorf("%w (%w)", partd.ErrNeedsReopen, tail.err)
		must.Fail(t, change(), partd.ErrNeedsReopen, "a change whose %s needs a new tail", operation)
		must.Fail(t, store.Damage(), partd.ErrNeedsReopen, "Damage() after a failed %s", operation)
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), partd.ErrNeedsReopen.Error()) || strings.Contains(err.Error(), "/srv") {
			t.Errorf("Ready() after a failed %s = %v, want the reason without a path", operation, err)
		}
	}
}
