package logstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// lateErrorFS is a file system. If fail is set, the next write to a write-ahead file stores the data, but fails.
type lateErrorFS struct {
	vfs.FS
	fail *atomic.Bool
}

func (f lateErrorFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "wal-") {
		return file, err
	}
	return lateErrorFile{file, f.fail}, nil
}

type lateErrorFile struct {
	vfs.File
	fail *atomic.Bool
}

func (f lateErrorFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if err == nil && f.fail.Swap(false) {
		return 0, syscall.EIO
	}
	return n, err
}

// TestFailedRecordIsErased writes a record completely, but the write reports an error. The record
// must not be replayed, unless the outcome was unknown.
func TestFailedRecordIsErased(t *testing.T) {
	mem := vfstest.NewMem()
	var fail atomic.Bool
	h := crashHooks
	h.fs = lateErrorFS{mem, &fail}
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	fail.Store(true)
	if err := s.Append(t.Context(), partd.Entry{Key: "b", Value: []byte("2")}); err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatalf("Append whose write fails: error %v, want one that does not wrap ErrUnknownOutcome", err)
	}
	killed := mem.KillClone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, killed, map[string][]byte{"a": []byte("1")})
}

// TestOperationLostAfterSeal applies an operation while an older table is being sealed. If a power
// failure then loses the operation's record, a retry must be applied.
func TestOperationLostAfterSeal(t *testing.T) {
	ctx := t.Context()
	mem := vfstest.NewMem()
	blocked, proceed := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	h := crashHooks
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "seg-") && armed.CompareAndSwap(true, false) {
			close(blocked)
			<-proceed
		}
		return nil
	})
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(ctx) }()
	<-blocked
	tag := partd.Tag{Session: session, Number: 1}
	op := partd.Operation{Entries: []partd.Entry{{Key: "b", Value: []byte("2")}}}
	if applied, err := s.Apply(ctx, tag, op); err != nil || !applied {
		t.Fatalf("Apply = %v, %v, want true", applied, err)
	}
	close(proceed)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	h.fs = mem.Crash(nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = open(crashDir, nil, h); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "b", "")
	if applied, err := s.Apply(ctx, tag, op); err != nil || !applied {
		t.Errorf("retry of an operation that a power failure has lost = %v, %v, want true", applied, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMissingSegmentIsDamage removes a segment file from the manifest. Open must report the damage.
func TestMissingSegmentIsDamage(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooks
	h.fs = mem
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.catalog.edit(func(m *manifest) { m.files = nil }); err != nil {
		t.Fatal(err)
	}
	h.fs = mem.KillClone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = open(crashDir, nil, h); !errors.As(err, new(*partd.CorruptError)) {
		t.Fatalf("open without a segment: error %v, want a CorruptError", err)
	}
	if s != nil {
		t.Error("open returned a store and an error")
	}
}

// TestErasedRecordStaysErased checks that a power failure does not bring back a record whose write
// failed late.
func TestErasedRecordStaysErased(t *testing.T) {
	mem := vfstest.NewMem()
	var fail atomic.Bool
	h := crashHooks
	h.fs = lateErrorFS{mem, &fail}
	s, err := open(crashDir, &Options{Sync: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a", "1")
	fail.Store(true)
	if err := s.Append(t.Context(), partd.Entry{Key: "b", Value: []byte("2")}); err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Fatalf("Append whose write fails: error %v, want one that does not wrap ErrUnknownOutcome", err)
	}
	for seed := range uint64(50) {
		wantContent(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), map[string][]byte{"a": []byte("1")})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
