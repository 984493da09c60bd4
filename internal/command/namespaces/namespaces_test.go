package namespaces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/partdtest"
)

func TestMain(m *testing.M) {
	procs.AllowParallel()
	procs.Main(m)
}

func open(t testing.TB, dir string, maxOpen int, ttl time.Duration, opened *atomic.Int64) *Set {
	t.Helper()
	s := must.Get(New(dir, Options{
		MaxOpen: maxOpen, TTL: ttl, Logger: slog.New(slog.DiscardHandler), ReaderMemory: 256 << 10, ListingMemory: 5 << 20,
		Open: func(_ context.Context, dir string) (partd.Partd, error) {
			store, err := logstore.Open(dir, &logstore.Options{Memory: logstore.MinMemory})
			if err != nil {
				return nil, err
			}
			if opened != nil {
				opened.Add(1)
			}
			return store, nil
		},
	}))(t)
	t.Cleanup(func() { must.Do(t, s.Close(context.Background())) })
	return s
}

// TestKeepsPromises runs partdtest's state machine on a namespace whose store is closed after nearly
// every operation, because the test uses other namespaces in between.
func TestKeepsPromises(t *testing.T) {
	n := 0
	partdtest.StateMachine(t, func(t *testing.T) partd.Partd {
		n++
		s := open(t, t.TempDir(), 2, 0, nil)
		store, release := s.Acquire("mine")
		other, releaseOther := s.Acquire("other")
		third, releaseThird := s.Acquire("third")
		t.Cleanup(func() { release(); releaseOther(); releaseThird() })
		return &disturbed{store.(*lazy), []partd.Partd{other, third}}
	}, &partdtest.Options{MachineRuns: 2})
	if n == 0 {
		t.Error("StateMachine opened no store")
	}
}

// disturbed uses two other namespaces before each append.
type disturbed struct {
	*lazy
	others []partd.Partd
}

func (d *disturbed) Append(ctx context.Context, entries ...partd.Entry) error {
	for _, other := range d.others {
		if err := other.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
			return err
		}
	}
	return d.lazy.Append(ctx, entries...)
}

// TestManyNamespaces uses many namespaces (their number is in PARTD_NAMESPACES) from several goroutines,
// with few open stores. Each namespace must keep its own data, and few file descriptors and goroutines may be in use.
func TestManyNamespaces(t *testing.T) {
	count := 300
	if s := os.Getenv("PARTD_NAMESPACES"); s != "" {
		count = must.Get(strconv.Atoi(s))(t)
	}
	ctx := context.Background()
	const maxOpen = 4
	s := open(t, t.TempDir(), maxOpen, 0, nil)
	before := descriptors()
	var peak, goroutines atomic.Int64
	must.Concurrently(3, func(g int) {
		for i := g; i < count; i += 3 {
			store, release := s.Acquire(fmt.Sprint("Job", i))
			must.Check(t, store.Append(ctx, partd.Entry{Key: "k", Value: fmt.Append(nil, "value of ", i)}))
			release()
			peak.Store(max(peak.Load(), int64(descriptors())))
			goroutines.Store(max(goroutines.Load(), int64(runtime.NumGoroutine())))
		}
	})
	if s.openCount > maxOpen || len(s.entries) > maxOpen {
		t.Errorf("%d stores are open and there are %d entries, want at most %d of each", s.openCount, len(s.entries), maxOpen)
	}
	if n := peak.Load() - int64(before); runtime.GOOS == "linux" && n > 25*maxOpen {
		t.Errorf("the namespaces used %d file descriptors, want at most %d", n, 25*maxOpen)
	}
	if n := goroutines.Load(); n > 25*maxOpen {
		t.Errorf("%d goroutines ran at a time, want at most %d", n, 25*maxOpen)
	}
	if list := must.Get(s.List(ctx, "", count+1))(t); len(list) != count || list[0].DiskBytes == 0 || time.Since(list[0].LastUsed) > time.Hour {
		t.Errorf("List returns %d namespaces, want %d that use disk space and were used recently", len(list), count)
	}
	for i := 0; i < count; i += 1 + count/50 {
		store, release := s.Acquire(fmt.Sprint("Job", i))
		if values := must.Get(store.Get(ctx, "k"))(t); string(values[0]) != fmt.Sprint("value of ", i) {
			t.Errorf("namespace %d has the value %q, want its own value", i, values[0])
		}
		release()
	}
}

func descriptors() int {
	names, _ := os.ReadDir("/proc/self/fd")
	return len(names)
}

// TestMissingNamespace checks that reading a missing namespace does not create it.
func TestMissingNamespace(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "namespaces")
	s := open(t, dir, 2, 0, nil)
	store, release := s.Acquire("missing")
	defer release()
	if values := must.Get(store.Get(ctx, "a", "b"))(t); len(values) != 2 || len(values[0])+len(values[1]) > 0 {
		t.Errorf("a missing namespace has values %q", values)
	}
	must.Do(t, store.Drop(ctx))
	must.Do(t, partd.Delete(ctx, store, "a"))
	must.Do(t, partd.Flush(ctx, store))
	for range partd.Keys(ctx, store) {
		t.Error("a missing namespace has keys")
	}
	must.Get(partd.Stat(ctx, store))(t)
	if err := store.(*lazy).CheckSession(ctx, 1, partd.SessionToken{}); !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("CheckSession of a missing namespace = %v, want %v", err, partd.ErrSessionExpired)
	}
	must.Fail(t, must.Err(os.Stat(dir)), os.ErrNotExist, "Stat of the directory, which must not exist")
}

// TestStoreInUse checks that a store that is being read stays open, so that an operation on another store must
// wait.
func TestStoreInUse(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), 1, 0, nil)
	a, aDone := s.Acquire("a")
	b, bDone := s.Acquire("b")
	defer aDone()
	defer bDone()
	must.Do(t, a.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
	r := must.Get(partd.Open(ctx, a, "k"))(t)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := b.Append(short, partd.Entry{Key: "k", Value: []byte("w")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append while the only store that can be open is in use = %v, want a timeout", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = r.Close() })
	must.Do(t, b.Append(ctx, partd.Entry{Key: "k", Value: []byte("w")}))
}

func TestFileNames(t *testing.T) {
	for _, name := range []string{"job7", "Job7", "A.B-c_D", "...", ".x", "Z"} {
		file := fileName(name)
		if name2, ok := namespaceOf(file); !ok || name2 != name {
			t.Errorf("%q has the directory %q, which belongs to %q", name, file, name2)
		}
	}
	for _, file := range []string{"Job", "+", "a+", "++a", "~x", "..", "+1", "x y"} {
		if name, ok := namespaceOf(file); ok {
			t.Errorf("the file %q counts as the namespace %q", file, name)
		}
	}
}

// TestReopen checks that a store is reopened after it returns ErrNeedsReopen.
func TestReopen(t *testing.T) {
	ctx := context.Background()
	var opened atomic.Int64
	set := must.Get(New(t.TempDir(), Options{MaxOpen: 1, Logger: slog.New(slog.DiscardHandler), Open: func(context.Context, string) (partd.Partd, error) {
		return &failing{partd.NewDict(), opened.Add(1) == 1}, nil
	}}))(t)
	t.Cleanup(func() { must.Do(t, set.Close(ctx)) })
	store, release := set.Acquire("a")
	defer release()
	must.Fail(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}), partd.ErrNeedsReopen, "Append")
	must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
}

type failing struct {
	partd.Partd
	fails bool
}

func (f *failing) Append(ctx context.Context, entries ...partd.Entry) error {
	if f.fails {
		return fmt.Errorf("a bad disk: %w", partd.ErrNeedsReopen)
	}
	return f.Partd.Append(ctx, entries...)
}

// TestMeasuringDoesNotCountAsUse checks that an unused namespace expires although its open store is measured again and
// again.
func TestMeasuringDoesNotCountAsUse(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), 3, 3*time.Second, nil)
	s.opts.Measure = func(partd.Partd) (disk, pending int64, err error) { return 1, 1, nil }
	for _, name := range []string{"first", "second", "third"} {
		store, release := s.Acquire(name)
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("v")}))
		release()
	}
	if n := s.pending(); n != 3 {
		t.Errorf("3 stores have %d pending bytes, want 3", n)
	}
	if first := s.idle.Front().Value.(*entry).name; first != "first" {
		t.Errorf("the least recently used namespace is %s, want first", first)
	}
	must.Eventually(t, time.Minute, "some namespaces have not expired", func() bool {
		s.pending()
		return len(must.Get(s.List(t.Context(), "", 3))(t)) == 0
	})
}

// TestSessionsSurviveRestart checks that the token of a session in a namespace is still valid after a restart, although
// a compressing layer is over the store that keeps the session.
func TestSessionsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	openStore := func(_ context.Context, path string) (partd.Partd, error) {
		s, err := logstore.Open(filepath.Join(path, "data"), nil)
		if err != nil {
			return nil, err
		}
		return compress.New(s, compress.Zstd, nil)
	}
	with := func(f func(*lazy)) {
		set := must.Get(New(dir, Options{MaxOpen: 1, Logger: slog.New(slog.DiscardHandler), Open: openStore}))(t)
		store, release := set.Acquire("a")
		f(store.(*lazy))
		release()
		must.Do(t, set.Close(context.Background()))
	}
	var session uint64
	var token partd.SessionToken
	with(func(l *lazy) {
		session = must.Get(l.NewSession(t.Context()))(t)
		token = must.Get(l.SessionToken(t.Context(), session))(t)
	})
	with(func(l *lazy) {
		if err := l.CheckSession(t.Context(), session, token); err != nil {
			t.Errorf("the token is not valid after a restart: %v", err)
		}
		if err := l.CheckSession(t.Context(), session, partd.SessionToken{}); err == nil {
			t.Error("a wrong token is valid")
		}
	})
}

// The store of a namespace has these abilities, whether it is open or not.
var _ interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Popper
	partd.Flusher
	partd.Syncer
	partd.Statter
	partd.Applier
	partd.SessionGuard
	partd.Checker
} = (*lazy)(nil)
