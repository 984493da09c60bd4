package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func diskUsage(t *testing.T, fsys vfs.FS, dir string) int64 {
	t.Helper()
	d, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := d.Next(-1)
	if err = errors.Join(err, d.Close()); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var n int64
	for _, e := range entries {
		info, err := fsys.Info(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		n += info.Disk
	}
	return n
}

// sizedChanges returns changes with values of n bytes. skipped names the changes without effect: the
// store already has the key "there" and has already applied an operation with the tag.
func sizedChanges(tag partd.Tag, n int) (ops map[string]func(context.Context, *Store) error, skipped []string) {
	value := bytes.Repeat([]byte("v"), n)
	bulk := make([]partd.Entry, 40)
	for i := range bulk {
		bulk[i] = partd.Entry{Key: fmt.Sprint(i), Value: value}
	}
	apply := func(change partd.Change) func(context.Context, *Store) error {
		return func(ctx context.Context, s *Store) error {
			applied, err := s.Apply(ctx, tag, partd.Operation{Change: change, Entries: []partd.Entry{{Key: "there", Value: value}}})
			if applied {
				return errors.New("the operation was applied twice")
			}
			return err
		}
	}
	return map[string]func(context.Context, *Store) error{
		"append":         func(ctx context.Context, s *Store) error { return s.Append(ctx, bulk[0]) },
		"append two":     func(ctx context.Context, s *Store) error { return s.Append(ctx, bulk[:2]...) },
		"append in bulk": func(ctx context.Context, s *Store) error { return s.Append(ctx, bulk...) },
		"set":            func(ctx context.Context, s *Store) error { return s.Set(ctx, "there", value) },
		"set once":       func(ctx context.Context, s *Store) error { return s.SetOnce(ctx, "new", value) },
		"set again":      func(ctx context.Context, s *Store) error { return s.SetOnce(ctx, "there", value) },
		"retry append":   apply(partd.ChangeAppend),
		"retry set":      apply(partd.ChangeSet),
	}, []string{"set again", "retry append", "retry set"}
}

// flushedStore returns a store with data files of each kind, and empty tables.
func flushedStore(t *testing.T, dir string, opts *Options, h hooks) (*Store, partd.Tag) {
	t.Helper()
	h.minMerge = -1
	s, err := open(dir, opts, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	session, err := s.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tag := partd.Tag{Session: session, Number: 1}
	if _, err := s.Apply(t.Context(), tag, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{{Key: "there", Value: make([]byte, 64<<10)}}}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // use each of the three write-ahead files
		mustAppend(t, s, "there", "v")
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s, tag
}

// TestFailedChangesFreeSpace checks that a change that fails or has no effect uses no disk space.
func TestFailedChangesFreeSpace(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, size := range []int{100, 300, 1000, 10_000} { // inline, and as a blob
			ops, skipped := sizedChanges(partd.Tag{}, size)
			for name := range ops {
				for n := int64(0); ; n++ {
					mem := vfstest.NewMem()
					var last vfstest.Op
					enabled := make(chan struct{}, 1)
					fault := &vfstest.Fault{Call: n, Err: syscall.ENOSPC, ShortWrite: n%2 == 0, Match: func(op vfstest.Op, _ string) bool {
						if len(enabled) == 1 {
							last = op
						}
						return len(enabled) == 1
					}}
					var failed vfstest.Op
					h := crashHooks
					h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
						err := fault.Check(op, name)
						if err != nil {
							failed = last
						}
						return err
					})
					s, tag := flushedStore(t, crashDir, &Options{Sync: sync}, h)
					ops, _ := sizedChanges(tag, size)
					before := diskUsage(t, mem, crashDir)
					enabled <- struct{}{}
					err := ops[name](t.Context(), s)
					<-enabled
					after := diskUsage(t, mem, crashDir)
					isSkipped := slices.Contains(skipped, name)
					if n == 0 && err != nil {
						t.Fatalf("%s without a fault: %v", name, err)
					}
					// If truncating or removing a file fails, its space stays in use.
					if (err != nil && s.checkPoisoned() == nil || isSkipped) && failed != vfstest.OpTruncate && failed != vfstest.OpRemove && after != before {
						t.Fatalf("Sync option %t, values of %d bytes, %s, fault in call %d (%v), error %v: %d additional bytes of disk are in use", sync, size, name, n, failed, err, after-before)
					}
					if n > 0 && !fault.Hit() {
						break
					}
				}
			}
		}
	}
}

// TestFullDiskKeepsSpace checks on real full disks that failed large changes leave space for small ones.
func TestFullDiskKeepsSpace(t *testing.T) {
	onSmallDisks(t, func(t *testing.T, disk string, opts *Options) {
		s, tag := flushedStore(t, disk+"/store", opts, hooks{fs: vfs.OS{}})
		ops, skipped := sizedChanges(tag, 1<<20)
		free := vfstest.Free(t, disk)
		checkSpace := func(label string) {
			t.Helper()
			// ext4 also needs some blocks for metadata.
			if now := vfstest.Free(t, disk); now < free-16<<10 || now != free && strings.Contains(t.Name(), "tmpfs") {
				t.Errorf("%d bytes were free at first, but %s only %d are", free, label, now)
			}
		}
		for _, name := range skipped {
			for range 3 {
				if err := ops[name](t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			checkSpace("after " + name)
		}
		mustBeFull(t, "an Append of 40 MB", ops["append in bulk"](t.Context(), s))
		checkSpace("after a large Append")
		mustBeFull(t, "an Append of one value of 40 MB", s.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, 40<<20)}))
		checkSpace("after an Append of a large value")
		small := make([]partd.Entry, 1_500_000)
		for i := range small {
			small[i] = partd.Entry{Key: fmt.Sprintf("%016d", i), Value: []byte("v")}
		}
		mustBeFull(t, "an Append of 1,500,000 values", s.Append(t.Context(), small...))
		checkSpace("after an Append of many small values")
		for i := range 100 {
			if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 1000)}); err != nil {
				t.Fatalf("small append %d: %v", i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFailedBlobFreesSpace checks that a failed large value frees its space even if another one follows in the file.
func TestFailedBlobFreesSpace(t *testing.T) {
	mem := vfstest.NewMem()
	var armed atomic.Bool
	blocked, proceed := make(chan struct{}), make(chan struct{})
	h := crashHooks
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "blob-") && armed.CompareAndSwap(true, false) {
			close(blocked)
			<-proceed
			return vfstest.ShortWrite(syscall.ENOSPC)
		}
		return nil
	})
	s, _ := flushedStore(t, crashDir, nil, h)
	before := diskUsage(t, mem, crashDir)
	armed.Store(true)
	failed := make(chan error, 1)
	go func() { failed <- s.Append(t.Context(), partd.Entry{Key: "a", Value: make([]byte, 1<<20)}) }()
	<-blocked
	value := string(bytes.Repeat([]byte("b"), 10_000))
	mustAppend(t, s, "b", value)
	close(proceed)
	mustBeFull(t, "Append", <-failed)
	if n := diskUsage(t, mem, crashDir) - before; n > 32<<10 {
		t.Errorf("the failed append left %d additional bytes in use, want at most 32 KiB", n)
	}
	wantValue(t, s, "b", value)
}
