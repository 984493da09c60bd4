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
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func diskUsage(t *testing.T, fsys vfs.FS, dir string) int64 {
	t.Helper()
	d := must.Get(fsys.ReadDir(dir))(t)
	entries, err := d.Next(-1)
	if err = errors.Join(err, d.Close()); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var n int64
	for _, e := range entries {
		info := must.Get(fsys.Info(filepath.Join(dir, e.Name())))(t)
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
	s := openWith(t, dir, opts, h)
	t.Cleanup(func() { _ = s.Close() })
	tag := partd.Tag{Session: newSession(t, s), Number: 1}
	must.Get(s.Apply(t.Context(), tag, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{{Key: "there", Value: make([]byte, 64<<10)}}}))(t)
	for range 3 { // use each of the three write-ahead files
		mustAppend(t, s, "there", "v")
		must.Do(t, s.Flush(t.Context()))
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

// TestFullDiskOutcomesAreKnown checks that a store on a full disk allows reads and Drop, and refuses other changes.
func TestFullDiskOutcomesAreKnown(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "v")
	must.Do(t, s.Close())
	failed := map[string]bool{}
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		switch {
		case op == vfstest.OpWrite && !strings.HasSuffix(name, lockName):
			if _, before := failed[name]; !before {
				failed[name] = true
			}
			return syscall.ENOSPC
		case op == vfstest.OpRead && failed[name]: // the store cannot read back what it wrote
			failed[name] = false
			return syscall.EIO
		}
		return nil
	})
	s = openWith(t, crashDir, nil, h)
	ops, _ := sizedChanges(partd.Tag{Session: 1, Number: 1}, 10)
	for name, op := range ops {
		mustBeFull(t, name, op(t.Context(), s))
	}
	for _, step := range faultSteps() {
		switch err := step.do(t.Context(), s); step.name {
		case "append", "append a large value", "append a large batch", "set", "set once", "delete", "pop", "flush", "sync":
			mustBeFull(t, step.name, err)
		}
	}
	must.Check(t, s.Close())
}

// fullStore returns a store that could not seal its first table, and whose second table is in
// use, so that a Scan must retain both. Its file system rejects writes to segments while full
// is set.
func fullStore(t *testing.T) (s *Store, mem *vfstest.Mem, full *atomic.Bool) {
	t.Helper()
	mem, full = vfstest.NewMem(), new(atomic.Bool)
	full.Store(true)
	s = openWith(t, crashDir, &Options{Memory: MinMemory}, crashHooksOn(vfstest.Inject(mem, failSegmentWrites(full))))
	fill(t, s)
	return s, mem, full
}

// fill appends until the tables are full, and returns the number of keys.
func fill(t *testing.T, s *Store) int {
	t.Helper()
	for i := range 100 {
		err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("full", i), Value: make([]byte, 300)})
		if errors.Is(err, syscall.ENOSPC) {
			return i
		}
		must.Do(t, err)
	}
	t.Fatal("100 appends did not fill the tables")
	return 0
}

// shortContext returns a context with a time limit that calls reach only if they block.
func shortContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantMemory checks that the store has exactly its two tables in memory, no spare ones, and no slow readers.
func wantMemory(t *testing.T, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.tables.free)
	for _, u := range []*memtable{s.tables.active, s.tables.frozen} {
		if u != nil {
			n++
		}
	}
	if n != 2 || s.tables.spares != 0 || s.tables.slowReaders != 0 {
		t.Fatalf("the store has %d tables, %d spare tables and %d slow readers, want 2, 0 and 0", n, s.tables.spares, s.tables.slowReaders)
	}
}

// TestDropWithinScanOfAFullStore checks that a Scan that retains both tables does not block Drop.
func TestDropWithinScanOfAFullStore(t *testing.T) {
	s, _, _ := fullStore(t)
	n := 0
	for c, err := range s.Scan(t.Context()) {
		must.Do(t, err)
		if n == 0 {
			must.Do(t, s.Drop(shortContext(t)))
			mustAppend(t, s, "after", "dropped")
		}
		if c.Key == "after" {
			t.Error("Scan yielded data that was appended after its start")
		}
		n++
	}
	if n < 10 {
		t.Errorf("Scan yielded only %d keys, want at least 10", n)
	}
	if got, err := contents(s); err != nil || len(got) != 1 || string(got["after"]) != "dropped" {
		t.Fatalf("after Drop and an append, the store has %d keys (error %v), want 1", len(got), err)
	}
	wantValue(t, s, "full0", "")
	must.Do(t, s.Drop(shortContext(t)))
	wantMemory(t, s)
	must.Do(t, s.Close())
}

// TestAppendWithinScanOfAFullStore checks that a Scan that retains both tables does not block appends when the disk
// has space again.
func TestAppendWithinScanOfAFullStore(t *testing.T) {
	s, _, full := fullStore(t)
	before := must.Get(contents(s))(t)
	n := 0
	for _, err := range s.Scan(t.Context()) {
		must.Do(t, err)
		if n == 0 {
			full.Store(false)
			for i := range 200 {
				must.Do(t, s.Append(shortContext(t), partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 300)}))
			}
			must.Do(t, s.Flush(shortContext(t)))
			// The disk is full again, so no more tables may be retained.
			full.Store(true)
			mustAppend(t, s, "last", "value")
			if _, err := contents(s); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("second Scan on a full disk: error %v, want ENOSPC, so that it retains no tables", err)
			}
			wantValue(t, s, "last", "value")
			full.Store(false)
			must.Do(t, s.Flush(shortContext(t)))
		}
		n++
	}
	if n != len(before) {
		t.Errorf("Scan yielded %d keys, want %d", n, len(before))
	}
	wantMemory(t, s)
	if got, err := contents(s); err != nil || len(got) != len(before)+201 {
		t.Fatalf("the store has %d keys (error %v), want %d", len(got), err, len(before)+201)
	}
	must.Do(t, s.Close())
}

// TestAppendWhileOpenOfAFullStore checks that an unfinished reader of an unsealed value does not block appends.
func TestAppendWhileOpenOfAFullStore(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	fs := vfstest.Inject(vfstest.NewMem(), failSegmentWrites(&full))
	s := openWith(t, crashDir, &Options{Memory: MinMemory}, hooks{fs: fs})
	piece := strings.Repeat("v", 15<<10)
	for range maxOpenCopy/len(piece) + 2 {
		mustAppend(t, s, "large", piece)
	}
	r := must.Get(s.Open(t.Context(), "large"))(t)
	if s.tables.slowReaders != 1 {
		t.Fatalf("the store has %d slow readers, want 1", s.tables.slowReaders)
	}
	full.Store(false)
	for i := range 400 {
		must.Do(t, s.Append(shortContext(t), partd.Entry{Key: fmt.Sprint(i), Value: []byte(piece)}))
	}
	must.Do(t, s.Flush(shortContext(t)))
	n, err := io.Copy(io.Discard, r)
	if want := int64(len(piece) * (maxOpenCopy/len(piece) + 2)); err != nil || n != want {
		t.Fatalf("the reader returned %d bytes, want %d; error %v", n, want, err)
	}
	must.Do(t, r.Close())
	wantMemory(t, s)
	must.Do(t, s.Close())
}
