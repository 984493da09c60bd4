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

// open opens a node that sends no heartbeats by itself.
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

// save saves the price of one day.
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

func want(t *testing.T, n *pull.Node, name, want string) {
	t.Helper()
	if got, err := load(t, n, name); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// TestOwnRegistry runs nodes with their own registry. Each must see what the others save,
// concurrent saves must succeed or conflict, a repeated Load must send no requests, and a
// lost version can be forgotten.
func TestOwnRegistry(t *testing.T) {
	t.Parallel()
	registry := newInMemory()
	o := pull.Options{OwnRegistry: registry}
	a, b, c := open(t, t.TempDir(), o), open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	must(t, save(t, a, "x", 1, 10))
	want(t, b, "x", "10")
	must(t, save(t, b, "x", 2, 11))
	want(t, c, "x", "10 11")
	size := func() int {
		registry.mu.Lock()
		defer registry.mu.Unlock()
		return len(registry.log)
	}
	before, asked := size(), c.Stats().Requests
	want(t, c, "x", "10 11")
	if size() != before || c.Stats().Requests != asked {
		t.Errorf("a second Load: %d changes, %d requests", size()-before, c.Stats().Requests-asked)
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
		t.Errorf("%d saved, %d conflicts", saved.Load(), conflicts.Load())
	}
	must(t, save(t, a, "x", 3, 12))
	must(t, a.Close())
	if _, err := load(t, b, "x"); !errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("nobody has the version: %v", err)
	}
	must(t, b.Forget(t.Context(), "x"))
	if _, err := pull.Open(t.Context(), t.TempDir(), &pull.Options{Registry: "nats://a", OwnRegistry: registry}); err == nil || !strings.Contains(err.Error(), "set only one") {
		t.Errorf("two registries: %v", err)
	}
}

// TestOwnRegistryInterrupted checks that a watch that ended is started again, and that
// changes in between are seen.
func TestOwnRegistryInterrupted(t *testing.T) {
	t.Parallel()
	registry := &interrupted{inMemory: newInMemory()}
	o := pull.Options{OwnRegistry: registry, Newest: true}
	a, b := open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	for day := range 3 {
		must(t, save(t, a, "x", day+1, float64(day)))
		registry.cut()
		want(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
	}
}

type interrupted struct {
	*inMemory
	mu   sync.Mutex
	cuts []context.CancelFunc
}

func (r *interrupted) Watch(ctx context.Context, f func(pull.Entry)) error {
	ctx, cut := context.WithCancel(ctx)
	r.mu.Lock()
	r.cuts = append(r.cuts, cut)
	r.mu.Unlock()
	return r.inMemory.Watch(ctx, f)
}

func (r *interrupted) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cut := range r.cuts {
		cut()
	}
}

// storage is a bucket that can be full, or fail every second request.
type storage struct {
	objstore.Memory
	full, failing atomic.Bool
	requests      atomic.Int64
}

func (s *storage) fails() error {
	if s.failing.Load() && s.requests.Add(1)%2 == 1 {
		return errors.New("the storage is out of order")
	}
	return nil
}

func (s *storage) Create(ctx context.Context, name string, data []byte) error {
	if s.full.Load() {
		return fmt.Errorf("%w (%w)", syscall.ENOSPC, objstore.ErrRefused)
	}
	return errors.Join(s.fails(), s.Memory.Create(ctx, name, data))
}

func (s *storage) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.fails(); err != nil {
		return nil, err
	}
	return s.Memory.ReadRange(ctx, name, offset, length)
}

// lose removes all objects and returns their number. Unless damage is empty, it replaces
// each by damage.
func (s *storage) lose(t *testing.T, damage string) (n int) {
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

// TestStorage checks that files are in the storage and not in the directory. Lost or
// damaged objects must be fetched from other nodes, a Save to a full storage must change
// nothing, and failed requests must be retried.
func TestStorage(t *testing.T) {
	t.Parallel()
	registry, bucket, dir := newInMemory(), new(storage), t.TempDir()
	o := pull.Options{OwnRegistry: registry, Storage: bucket, Newest: true}
	a, b := open(t, dir, o), open(t, t.TempDir(), pull.Options{OwnRegistry: registry, Newest: true})
	bucket.full.Store(true)
	if err := save(t, a, "x", 1, 10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a full storage: %v", err)
	}
	if _, err := load(t, a, "x"); !errors.Is(err, pull.ErrNotFound) {
		t.Fatalf("something was saved: %v", err)
	}
	bucket.full.Store(false)
	must(t, save(t, a, "x", 1, 10))
	want(t, a, "x", "10")
	want(t, b, "x", "10")
	must(t, save(t, b, "x", 2, 11))
	bucket.full.Store(true)
	if _, err := load(t, a, "x"); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("a full storage is the fault of nobody else: %v", err)
	}
	bucket.full.Store(false)
	want(t, a, "x", "10 11")
	for _, damage := range []string{"", "damaged"} {
		if n := bucket.lose(t, damage); n == 0 {
			t.Error("nothing was in the storage")
		}
		want(t, a, "x", "10 11")
	}
	if n := bucket.lose(t, "damaged"); n == 0 {
		t.Error("nothing is in the storage again")
	}
	found, err := a.Verify(t.Context())
	if err != nil || len(found) == 0 || !found[0].Repaired {
		t.Errorf("%+v, %v", found, err)
	}
	want(t, b, "x", "10 11")
	must(t, save(t, a, "y", 1, 10))
	bucket.lose(t, "damaged")
	must(t, save(t, a, "z", 1, 10)) // its file is in the storage, damaged
	want(t, a, "z", "10")
	bucket.failing.Store(true)
	must(t, save(t, a, "x", 3, 12))
	want(t, a, "x", "10 11 12")
	bucket.failing.Store(false)
	files, err := filepath.Glob(filepath.Join(dir, "files", "*"))
	must(t, err)
	for _, path := range files {
		info, err := os.Stat(path)
		must(t, err)
		if info.Sys().(*syscall.Stat_t).Blocks > 0 {
			t.Errorf("%s takes room", path)
		}
	}
	must(t, a.Close())
	again := open(t, dir, o)
	want(t, again, "x", "10 11 12")
	must(t, b.Close())
	files, err = filepath.Glob(filepath.Join(dir, "files", "*"))
	must(t, err)
	for _, path := range files { // as after a power failure
		must(t, os.Remove(path))
	}
	want(t, again, "x", "10 11 12")
	bucket.lose(t, "")
	if _, err := load(t, open(t, dir, o), "x"); !errors.Is(err, pull.ErrSyncFailed) {
		t.Errorf("nobody has it: %v", err)
	}
}

// TestStorageLater adds a storage to a directory with files. The files must stay usable,
// even if the storage loses or damages objects of the same name.
func TestStorageLater(t *testing.T) {
	t.Parallel()
	registry, bucket, dir := newInMemory(), new(storage), t.TempDir()
	a := open(t, dir, pull.Options{OwnRegistry: registry})
	must(t, save(t, a, "x", 1, 10))
	must(t, a.Close())
	a = open(t, dir, pull.Options{OwnRegistry: registry, Storage: bucket})
	want(t, a, "x", "10")
	must(t, save(t, a, "y", 1, 10)) // the same rows, so the same file
	bucket.lose(t, "damaged")
	want(t, a, "x", "10")
	want(t, a, "x", "10")
}

// TestStorageShared lets two nodes share a bucket, and makes and restores a backup.
func TestStorageShared(t *testing.T) {
	t.Parallel()
	registry, bucket, backups := newInMemory(), new(storage), new(objstore.Memory)
	o := pull.Options{OwnRegistry: registry, Storage: bucket, Newest: true}
	a, b := open(t, t.TempDir(), o), open(t, t.TempDir(), o)
	must(t, save(t, a, "x", 1, 10))
	want(t, b, "x", "10")
	_, err := a.Backup(t.Context(), backups, "one", true)
	must(t, err)
	must(t, save(t, b, "x", 1, 20))
	want(t, a, "x", "20")
	_, err = b.Restore(t.Context(), backups, "one")
	must(t, err)
	want(t, a, "x", "10")
}

// TestNewest checks that a Load with Newest returns all earlier saves, even if the
// registry's watch is slow.
func TestNewest(t *testing.T) {
	t.Parallel()
	registry := &late{inMemory: newInMemory()}
	a := open(t, t.TempDir(), pull.Options{OwnRegistry: registry.inMemory})
	b := open(t, t.TempDir(), pull.Options{OwnRegistry: registry, Newest: true})
	for day := range 3 {
		must(t, save(t, a, "x", day+1, float64(day)))
		want(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
		before := b.Stats().Requests
		want(t, b, "x", strings.Join([]string{"0", "1", "2"}[:day+1], " "))
		if asked := b.Stats().Requests - before; asked != 0 {
			t.Errorf("a second Load asks %d nodes", asked)
		}
	}
}

type late struct{ *inMemory }

func (r *late) Watch(ctx context.Context, f func(pull.Entry)) error {
	return r.inMemory.Watch(ctx, func(e pull.Entry) {
		time.Sleep(50 * time.Millisecond)
		f(e)
	})
}
