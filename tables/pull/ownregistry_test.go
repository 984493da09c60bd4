//go:build unix

package pull_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/pull"
)

// open opens a node whose long lease prevents regular heartbeats during a test.
func open(t *testing.T, dir string, o pull.Options) *pull.Node {
	t.Helper()
	o.Listen, o.Lease, o.SyncTimeout = "localhost:0", time.Hour, 10*time.Second
	n, err := pull.Open(t.Context(), dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func save(t *testing.T, n *pull.Node, name string, day int, price float64) error {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "day", Type: arrow.PrimitiveTypes.Date32}, {Name: "price", Type: arrow.PrimitiveTypes.Float64}}, nil)
	r := array.NewJSONReader(strings.NewReader(fmt.Sprintf(`{"day": "2026-01-%02d", "price": %g}`, day, price)), schema)
	defer r.Release()
	_, err := n.Save(t.Context(), name, r)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, n *pull.Node, name string) (string, error) {
	t.Helper()
	r, err := n.Load(t.Context(), name, time.Time{}, time.Time{})
	if err != nil {
		return "", err
	}
	defer r.Release()
	var all []string
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			all = append(all, r.RecordBatch().Column(1).ValueStr(i))
		}
	}
	return strings.Join(all, " "), r.Err()
}

func wantPrices(t *testing.T, n *pull.Node, name, wantPrices string) {
	t.Helper()
	if got, err := load(t, n, name); err != nil || got != wantPrices {
		t.Errorf("Load(%q) = %q, %v; want %q", name, got, err, wantPrices)
	}
}

// TestOwnRegistry runs nodes with a Registry that replaces NATS. Each must load what the
// others save, concurrent saves must succeed or conflict, a repeated Load must send no
// requests, and Forget must give up a lost version.
func TestOwnRegistry(t *testing.T) {
	t.Parallel()
	registry := newInMemory()
	o := pull.Options{OwnRegistry: registry}
	a, b, c := open(t, t.TempDir(), o), open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	must(t, save(t, a, "x", 1, 10))
	wantPrices(t, b, "x", "10")
	must(t, save(t, b, "x", 2, 11))
	wantPrices(t, c, "x", "10 11")
	size := func() int {
		registry.mu.Lock()
		defer registry.mu.Unlock()
		return len(registry.log)
	}
	changesBefore, requestsBefore := size(), c.Stats().Requests
	wantPrices(t, c, "x", "10 11")
	if size() != changesBefore || c.Stats().Requests != requestsBefore {
		t.Errorf("a second Load caused %d changes of the registry and %d requests, want none", size()-changesBefore, c.Stats().Requests-requestsBefore)
	}
	var work sync.WaitGroup
	var saved, conflicts atomic.Int64
	for _, n := range []*pull.Node{a, b, c} {
		work.Go(func() {
			switch err := save(t, n, "y", 1, 1); {
			case err == nil:
				saved.Add(1)
			case errors.Is(err, pull.ErrConflict):
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	work.Wait()
	if saved.Load() == 0 || saved.Load()+conflicts.Load() != 3 {
		t.Errorf("%d concurrent saves succeeded and %d conflicted, want 3 in total and at least one success", saved.Load(), conflicts.Load())
	}
	must(t, save(t, a, "x", 3, 12))
	must(t, a.Close())
	if _, err := load(t, b, "x"); !errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("Load of a version without live holders: got error %v, want ErrSyncFailed", err)
	}
	must(t, b.Forget(t.Context(), "x"))
	if _, err := pull.Open(t.Context(), t.TempDir(), &pull.Options{Registry: "nats://a", OwnRegistry: registry}); err == nil || !strings.Contains(err.Error(), "set only one") {
		t.Errorf("Open with two registries: got error %v, want %q", err, "set only one")
	}
}

// TestOwnRegistryInterrupted checks that a node restarts an interrupted watch, and misses no change.
func TestOwnRegistryInterrupted(t *testing.T) {
	t.Parallel()
	registry := &interruptedRegistry{inMemory: newInMemory()}
	o := pull.Options{OwnRegistry: registry, Newest: true}
	a, b := open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	for day := range 3 {
		must(t, save(t, a, "x", day+1, float64(day)))
		registry.stopWatches()
		wantPrices(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
	}
}

// interruptedRegistry is a registry whose watches end when stopWatches is called.
type interruptedRegistry struct {
	*inMemory
	mu      sync.Mutex
	cancels []context.CancelFunc
}

func (r *interruptedRegistry) Watch(ctx context.Context, f func(pull.Entry)) error {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	r.cancels = append(r.cancels, cancel)
	r.mu.Unlock()
	return r.inMemory.Watch(ctx, f)
}

func (r *interruptedRegistry) stopWatches() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.cancels {
		cancel()
	}
}

// faultyBucket is a bucket that can be full, or fail every second request.
type faultyBucket struct {
	objstore.Memory
	full, failing atomic.Bool
	requests      atomic.Int64
}

func (s *faultyBucket) fails() error {
	if s.failing.Load() && s.requests.Add(1)%2 == 1 {
		return errors.New("injected storage failure")
	}
	return nil
}

func (s *faultyBucket) Create(ctx context.Context, name string, data []byte) error {
	if s.full.Load() {
		return fmt.Errorf("%w (%w)", syscall.ENOSPC, objstore.ErrRefused)
	}
	return errors.Join(s.fails(), s.Memory.Create(ctx, name, data))
}

func (s *faultyBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.fails(); err != nil {
		return nil, err
	}
	return s.Memory.ReadRange(ctx, name, offset, length)
}

// removeAll removes all objects if damage is empty. Otherwise, it replaces their content with damage.
// It returns the number of objects.
func (s *faultyBucket) removeAll(t *testing.T, damage string) (n int) {
	for o, err := range s.List(t.Context(), "", "") {
		must(t, err)
		must(t, s.Delete(t.Context(), o.Name))
		if damage != "" {
			must(t, s.Memory.Create(t.Context(), o.Name, []byte(damage)))
		}
		n++
	}
	return n
}

// TestStorage checks that a node with a Storage bucket keeps its files there, and only markers without data in its
// directory. The node must fetch lost or damaged objects from other nodes, and retry failed requests. A Save to a
// full bucket must change nothing.
func TestStorage(t *testing.T) {
	t.Parallel()
	registry, bucket, dir := newInMemory(), new(faultyBucket), t.TempDir()
	o := pull.Options{OwnRegistry: registry, Storage: bucket, Newest: true}
	a, b := open(t, dir, o), open(t, t.TempDir(), pull.Options{OwnRegistry: registry, Newest: true})
	bucket.full.Store(true)
	if err := save(t, a, "x", 1, 10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Save to a full storage: got error %v, want ENOSPC", err)
	}
	if _, err := load(t, a, "x"); !errors.Is(err, pull.ErrNotFound) {
		t.Fatalf("Load after a failed Save: got error %v, want ErrNotFound", err)
	}
	bucket.full.Store(false)
	must(t, save(t, a, "x", 1, 10))
	wantPrices(t, a, "x", "10")
	wantPrices(t, b, "x", "10")
	must(t, save(t, b, "x", 2, 11))
	bucket.full.Store(true)
	if _, err := load(t, a, "x"); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("Load to a full storage: got error %v, want ENOSPC and not ErrSyncFailed", err)
	}
	bucket.full.Store(false)
	wantPrices(t, a, "x", "10 11")
	for _, damage := range []string{"", "damaged"} {
		if n := bucket.removeAll(t, damage); n == 0 {
			t.Error("the storage was empty after a Load, want the table's files")
		}
		wantPrices(t, a, "x", "10 11")
	}
	if n := bucket.removeAll(t, "damaged"); n == 0 {
		t.Error("the storage was empty after the files were fetched again")
	}
	findings, err := a.Verify(t.Context())
	if err != nil || len(findings) == 0 || !findings[0].Repaired {
		t.Errorf("Verify = %+v, %v, want repaired findings", findings, err)
	}
	wantPrices(t, b, "x", "10 11")
	must(t, save(t, a, "y", 1, 10))
	bucket.removeAll(t, "damaged")
	must(t, save(t, a, "z", 1, 10)) // the same rows as in y, so the same file, which is damaged in the bucket
	wantPrices(t, a, "z", "10")
	bucket.failing.Store(true)
	must(t, save(t, a, "x", 3, 12))
	wantPrices(t, a, "x", "10 11 12")
	bucket.failing.Store(false)
	files, err := filepath.Glob(filepath.Join(dir, "files", "*"))
	must(t, err)
	for _, path := range files {
		info, err := os.Stat(path)
		must(t, err)
		if info.Sys().(*syscall.Stat_t).Blocks > 0 {
			t.Errorf("the marker %s occupies disk blocks", path)
		}
	}
	must(t, a.Close())
	reopened := open(t, dir, o)
	wantPrices(t, reopened, "x", "10 11 12")
	must(t, b.Close())
	files, err = filepath.Glob(filepath.Join(dir, "files", "*"))
	must(t, err)
	for _, path := range files { // a power failure can lose the markers
		must(t, os.Remove(path))
	}
	wantPrices(t, reopened, "x", "10 11 12")
	bucket.removeAll(t, "")
	if _, err := load(t, open(t, dir, o), "x"); !errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("Load of a file that no node has: got error %v, want ErrSyncFailed", err)
	}
}

// TestStorageLater adds a Storage bucket to a node whose directory already has files. These files must
// stay usable, even if the bucket has damaged objects with the same names.
func TestStorageLater(t *testing.T) {
	t.Parallel()
	registry, bucket, dir := newInMemory(), new(faultyBucket), t.TempDir()
	a := open(t, dir, pull.Options{OwnRegistry: registry})
	must(t, save(t, a, "x", 1, 10))
	must(t, a.Close())
	a = open(t, dir, pull.Options{OwnRegistry: registry, Storage: bucket})
	wantPrices(t, a, "x", "10")
	must(t, save(t, a, "y", 1, 10)) // the same rows, so the same file
	bucket.removeAll(t, "damaged")
	wantPrices(t, a, "x", "10")
	wantPrices(t, a, "x", "10")
}

// TestStorageShared checks that two nodes can share a bucket, and can create and restore a backup.
func TestStorageShared(t *testing.T) {
	t.Parallel()
	registry, bucket, backups := newInMemory(), new(faultyBucket), new(objstore.Memory)
	o := pull.Options{OwnRegistry: registry, Storage: bucket, Newest: true}
	a, b := open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	must(t, save(t, a, "x", 1, 10))
	wantPrices(t, b, "x", "10")
	_, err := a.Backup(t.Context(), backups, "one", true)
	must(t, err)
	must(t, save(t, b, "x", 1, 20))
	wantPrices(t, a, "x", "20")
	_, err = b.Restore(t.Context(), backups, "one")
	must(t, err)
	wantPrices(t, a, "x", "10")
}

// TestNewest checks that a Load with Newest returns all earlier saves, even if the
// registry's watch is slow.
func TestNewest(t *testing.T) {
	t.Parallel()
	registry := &slowRegistry{inMemory: newInMemory()}
	a := open(t, t.TempDir(), pull.Options{OwnRegistry: registry.inMemory})
	b := open(t, t.TempDir(), pull.Options{OwnRegistry: registry, Newest: true})
	for day := range 3 {
		must(t, save(t, a, "x", day+1, float64(day)))
		wantPrices(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
		before := b.Stats().Requests
		wantPrices(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
		if sent := b.Stats().Requests - before; sent != 0 {
			t.Errorf("a second Load sent %d requests, want none", sent)
		}
	}
}

// slowRegistry is a registry whose watchers see each change 50 ms later.
type slowRegistry struct{ *inMemory }

func (r *slowRegistry) Watch(ctx context.Context, f func(pull.Entry)) error {
	return r.inMemory.Watch(ctx, func(e pull.Entry) {
		time.Sleep(50 * time.Millisecond)
		f(e)
	})
}
