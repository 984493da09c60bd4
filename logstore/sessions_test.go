package logstore

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestRetryWaitsForSync checks that a retried operation waits for the same sync as the original
// operation. Otherwise the client that retries would rely on data that is not yet durable.
func TestRetryWaitsForSync(t *testing.T) {
	var holdSyncs atomic.Bool
	var once sync.Once
	syncing, proceed := make(chan struct{}), make(chan struct{})
	h := crashHooks
	h.fs = vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if holdSyncs.Load() && op == vfstest.OpSync && strings.Contains(name, "wal-") {
			once.Do(func() { close(syncing) })
			<-proceed
		}
		return nil
	})
	s := openWith(t, crashDir, &Options{Sync: true}, h)
	session := newSession(t, s)
	type answer struct {
		applied bool
		err     error
	}
	apply := func() chan answer {
		c := make(chan answer, 1)
		go func() {
			applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1, CRC: 7}, partd.Operation{
				Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "a", Value: []byte("v")}},
			})
			c <- answer{applied, err}
		}()
		return c
	}
	holdSyncs.Store(true)
	first := apply()
	<-syncing
	second := apply()
	select {
	case a := <-second:
		t.Errorf("the retry was acknowledged before the sync: %+v", a)
		second <- a
	case <-time.After(100 * time.Millisecond):
	}
	close(proceed)
	if a := <-first; !a.applied || a.err != nil {
		t.Errorf("original operation: %+v, want applied", a)
	}
	if a := <-second; a.applied || a.err != nil {
		t.Errorf("retried operation: %+v, want not applied and no error", a)
	}
	wantValue(t, s, "a", "v")
	must.Do(t, s.Close())
}

// racingOp is an append that calls race after its tag was checked for the first time.
type racingOp struct {
	appendOp
	race func()
}

func (op racingOp) each(f func(segment.Kind, string, []byte) error) error {
	op.race()
	return op.appendOp.each(f)
}

// TestConcurrentRetry checks that a retry changes nothing if the operation is applied after the retry's first check.
func TestConcurrentRetry(t *testing.T) {
	ctx := t.Context()
	s := openWith(t, t.TempDir(), nil, hooks{fs: osFS})
	defer s.Close()
	session := newSession(t, s)
	tag := partd.Tag{Session: session, Number: 1}
	entries := []partd.Entry{{Key: "k", Value: []byte("v")}}
	op := racingOp{entries, sync.OnceFunc(func() {
		if applied, err := s.Apply(ctx, tag, partd.Operation{Entries: entries}); err != nil || !applied {
			t.Errorf("Apply = %v, %v, want true", applied, err)
		}
	})}
	if applied, err := s.change(ctx, "append", tag, op); err != nil || applied {
		t.Errorf("concurrent retry = %v, %v, want false", applied, err)
	}
	wantValue(t, s, "k", "v")
}

// TestSessionRecordsAreBounded checks that records without entries do not make the write-ahead file grow forever.
func TestSessionRecordsAreBounded(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	opts := &Options{MaxSessions: 5}
	s, err := openHooked(crashDir, opts, h)
	must.Do(t, err)
	mustAppend(t, s, "a", "v")
	var session uint64
	first, maxSize := s.tables.active.wal.epoch, int64(0)
	for range 1000 {
		if session, err = s.NewSession(t.Context()); err != nil {
			t.Fatal(err)
		}
		if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, partd.Operation{Change: partd.ChangeAppend}); err != nil || !applied {
			t.Fatalf("Apply of an empty append = %v, %v, want true", applied, err)
		}
		maxSize = max(maxSize, s.tables.active.wal.end)
	}
	if limit := 4*h.tableBytes + h.walStep + 200; maxSize > limit || maxSize < limit/2 {
		t.Errorf("the write-ahead file reached %d bytes, want at most %d and at least half of that", maxSize, limit)
	}
	if n := s.tables.active.wal.epoch - first; n < 4 || n > 20 {
		t.Errorf("the store began %d new write-ahead files, want 4 to 20", n)
	}
	h.fs = mem.KillClone()
	must.Do(t, s.Close())
	for _, fs := range []vfs.FS{h.fs, mem} {
		h.fs = fs
		k := must.Get(openHooked(crashDir, opts, h))(t)
		wantValue(t, k, "a", "v")
		if applied, err := k.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, partd.Operation{Change: partd.ChangeAppend}); err != nil || applied {
			t.Fatalf("retry after reopening = %v, %v, want false", applied, err)
		}
		must.Do(t, k.Close())
	}
}

// TestSessions checks the outcomes of tagged operations, and which sessions are forgotten.
func TestSessions(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	s := mustOpen(t, dir, &Options{MaxSessions: 2})
	a := newSession(t, s)
	piece := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("x")}}}
	try := func(s *Store, tag partd.Tag, op partd.Operation, applied bool, want error) {
		t.Helper()
		got, err := s.Apply(ctx, tag, op)
		if got != applied || !errors.Is(err, want) {
			t.Fatalf("Apply with tag %+v = %v, %v, want %v, %v", tag, got, err, applied, want)
		}
	}
	try(s, partd.Tag{Session: a, Number: 1, CRC: 5}, piece, true, nil)
	try(s, partd.Tag{Session: a, Number: 1, CRC: 5}, piece, false, nil)
	try(s, partd.Tag{Session: a, Number: 1, CRC: 6}, piece, false, partd.ErrSessionReused)
	try(s, partd.Tag{Session: a, Number: 3, CRC: 5}, piece, false, partd.ErrSessionGap)
	try(s, partd.Tag{Session: a + 1, Number: 1, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: a, Number: 2, CRC: 5}, partd.Operation{Change: partd.ChangeSetOnce, Entries: []partd.Entry{{Key: "k", Value: []byte("no")}}}, true, nil)
	try(s, partd.Tag{Session: a, Number: 3, CRC: 5}, partd.Operation{Change: partd.ChangeDelete, Keys: []string{"none"}}, true, nil)
	wantValue(t, s, "k", "x")
	// The tag of a Drop is recorded, and the table is reused.
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, true, nil)
	mustAppend(t, s, "k", "after")
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, false, nil)
	wantValue(t, s, "k", "after")
	must.Do(t, s.Close())
	s = mustOpen(t, dir, &Options{MaxSessions: 2})
	try(s, partd.Tag{Session: a, Number: 4, CRC: 5}, partd.Operation{Change: partd.ChangeDrop}, false, nil)
	b, err := s.NewSession(ctx)
	if err != nil || b != a+1 {
		t.Fatalf("NewSession = %d, %v, want %d", b, err, a+1)
	}
	if c, err := s.NewSession(ctx); err != nil || c != b+1 {
		t.Fatalf("NewSession = %d, %v, want %d", c, err, b+1)
	}
	// Three sessions were issued, and one must be forgotten: the oldest unused session.
	try(s, partd.Tag{Session: b, Number: 1, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: b + 1, Number: 1, CRC: 5}, piece, true, nil)
	try(s, partd.Tag{Session: a, Number: 5, CRC: 5}, piece, true, nil)
	// Next, the least recently used session must be forgotten, even after reopening.
	must.Do(t, s.Close())
	s = mustOpen(t, dir, &Options{MaxSessions: 2})
	must.Get(s.NewSession(ctx))(t)
	try(s, partd.Tag{Session: b + 1, Number: 2, CRC: 5}, piece, false, partd.ErrSessionExpired)
	try(s, partd.Tag{Session: a, Number: 6, CRC: 5}, piece, true, nil)
	must.Do(t, s.EndSession(ctx, a))
	try(s, partd.Tag{Session: a, Number: 7, CRC: 5}, piece, false, partd.ErrSessionExpired)
}
