package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// rowsByTable is the expected content of a store.
type rowsByTable map[string][]int64

// crashRun runs operations on a Store. At random calls to the file system, the tail (rows not yet in data files)
// and the database, it checks the state that a power loss or a kill would leave. During some operations, it checks
// that state at every such call. The tables must be in their state after the last acknowledged operation, or after
// the operation in flight.
//
// The database is a real SQLite database that syncs every commit. It is never copied during a
// commit, so a copy has the state of the last commit.
type crashRun struct {
	t             testing.TB
	seed          uint64
	opRand        *rand.Rand
	pointRand     *rand.Rand // chooses the calls at which to check
	crashRand     *rand.Rand
	callsPerCrash int
	dir           string // the database's directory
	mem           *vfstest.Mem
	tail          *tabletest.MemTail
	hooks         tables.Hooks

	db           sync.Mutex // held while the database changes
	mu           sync.Mutex // guards the following fields
	armed        bool
	everyCall    bool           // check at every call
	crashedAt    map[string]int // number of checks by kind of call
	acknowledged rowsByTable
	inFlight     rowsByTable
	crashCount   int
	err          error
}

func newCrashRun(t testing.TB, seed uint64) *crashRun {
	r := &crashRun{
		t: t, seed: seed, opRand: rand.New(rand.NewPCG(seed, 1)), pointRand: rand.New(rand.NewPCG(seed, 2)), crashRand: rand.New(rand.NewPCG(seed, 3)),
		callsPerCrash: 12, crashedAt: map[string]int{},
		dir: t.TempDir(), mem: vfstest.NewMem(), acknowledged: rowsByTable{}, inFlight: rowsByTable{},
	}
	must.Do(t, makeDurable(r.mem, r.dir))
	r.tail = &tabletest.MemTail{Values: map[string][]byte{}, Around: func() { r.maybeCheck("tail") }}
	r.hooks.FS = vfstest.Inject(r.mem, func(op vfstest.Op, name string) error {
		if op.Changes() {
			r.maybeCheck(op.String() + " " + filepath.Ext(name))
		}
		return nil
	})
	r.hooks.OnCommit = func(done bool) {
		if !done {
			r.maybeCheck("commit")
			r.db.Lock()
			return
		}
		r.db.Unlock()
		r.maybeCheck("after commit")
	}
	return r
}

func makeDurable(m *vfstest.Mem, dir string) error {
	if err := m.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if err := m.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// maybeCheck is called wherever the machine may stop, before the given kind of call. At random, it checks the state
// that a stop would leave.
func (r *crashRun) maybeCheck(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.armed || r.err != nil || r.pointRand.IntN(r.callsPerCrash) != 0 && !r.everyCall {
		return
	}
	r.crashCount++
	r.crashedAt[call]++
	r.crashRand = rand.New(rand.NewPCG(r.seed, uint64(2+r.crashCount)))
	r.err = r.check(context.Background())
}

// check opens a copy of the state that would remain if the machine stopped now, and checks its tables.
func (r *crashRun) check(ctx context.Context) (err error) {
	remaining := r.mem.Crash(r.crashRand)
	kind := "power loss"
	if r.crashRand.IntN(3) == 0 {
		remaining, kind = r.mem.KillClone(), "kill"
	}
	dir, err := os.MkdirTemp(filepath.Dir(r.dir), "left")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // t.TempDir also removes it
	r.db.Lock()
	for _, name := range []string{"catalog.db", "catalog.db-wal", "catalog.db-sums"} {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			r.db.Unlock()
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			r.db.Unlock()
			return err
		}
	}
	r.db.Unlock()
	// Open the copy at another path: a warehouse can be moved.
	if err := remaining.Rename(r.dir, dir); err != nil {
		return err
	}
	s, err := tables.OpenHooked(ctx, dir, &tables.Options{Tail: r.tail.Clone(), FoldAge: -1, Memory: 1 << 20}, tables.Hooks{FS: remaining})
	if err != nil {
		return fmt.Errorf("after a %s: %w", kind, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, step := range []string{"", "fold", "expire"} {
		switch step {
		case "fold":
			_, err = s.Fold(ctx, nil)
		case "expire":
			if r.crashRand.IntN(4) != 0 {
				return nil
			}
			_, err = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
		}
		if err != nil {
			return fmt.Errorf("after a %s: %s: %w", kind, step, err)
		}
		got := rowsByTable{}
		for info, err := range s.Bucket("").Tables(ctx, nil) {
			if err != nil {
				return fmt.Errorf("after a %s and %q: %w", kind, step, err)
			}
			if got[info.Name], _, err = tabletest.Read(ctx, s.Bucket(""), info.Name); err != nil {
				return fmt.Errorf("after a %s and %q: %w", kind, step, err)
			}
		}
		if err := got.addSnapshots(ctx, s.Bucket("")); err != nil {
			return fmt.Errorf("after a %s and %q: %w", kind, step, err)
		}
		if !got.equal(r.acknowledged) && !got.equal(r.inFlight) {
			return fmt.Errorf("after a %s and %q the tables are %v, want %v or %v", kind, step, got, r.acknowledged, r.inFlight)
		}
	}
	return nil
}

// addSnapshots adds an entry "snapshot/name" for each table of a snapshot, and "snapshot/" for the snapshot itself.
func (a rowsByTable) addSnapshots(ctx context.Context, b *tables.Bucket) error {
	all, err := b.Snapshots(ctx)
	for _, snap := range all {
		a[snap.Name+"/"] = nil
		for info, err := range b.Tables(ctx, &tables.Filter{Snapshot: snap.Name}) {
			if err != nil {
				return err
			}
			if a[snap.Name+"/"+info.Name], err = tabletest.ReadSnapshot(ctx, b, snap.Name, info.Name); err != nil {
				return err
			}
		}
	}
	return err
}

func (a rowsByTable) equal(b rowsByTable) bool {
	return maps.EqualFunc(a, b, func(a, b []int64) bool { return slices.Equal(a, b) })
}

// run runs operations until enough crashes have been checked.
func (r *crashRun) run(crashes int) (err error) {
	ctx := context.Background()
	o := &tables.Options{Tail: r.tail, FoldBytes: 1500, FoldAge: -1, Memory: 1 << 20, Sync: true}
	s, err := tables.OpenHooked(ctx, r.dir, o, r.hooks)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(r.err, errors.Join(err, s.Close(), os.RemoveAll(r.dir))) }()
	b := s.Bucket("")
	r.armed = true
	for next := int64(0); r.crashCount < crashes; {
		name := []string{"a", "b", "c"}[r.opRand.IntN(3)]
		after := maps.Clone(r.acknowledged)
		everyCall := r.opRand.IntN(r.callsPerCrash) == 0
		var op func() error
		switch k := r.opRand.IntN(15); k {
		default:
			count := int64(1 + r.opRand.IntN(4))
			mode := tables.PutAppend
			switch {
			case k == 0:
				mode = tables.PutReplace
				after[name] = nil
			case k == 1:
				count = 100 // too many rows for the tail: written directly to a file
			}
			ns := tabletest.Sequence(next, count)
			next += count
			after[name] = append(slices.Clone(after[name]), ns...)
			op = func() error { _, err := b.Table(name).Put(ctx, tabletest.Rows(ns...), mode, nil); return err }
		case 5, 6:
			op = func() error { _, err := s.Fold(ctx, nil); return err }
		case 7:
			op = func() error { _, err := s.Compact(ctx, nil); return err }
		case 8:
			op = func() error { _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); return err }
		case 9:
			if _, ok := after[name]; !ok {
				continue
			}
			delete(after, name)
			op = func() error { return b.Delete(ctx, name) }
		case 10:
			snap := []string{"x", "y"}[r.opRand.IntN(2)]
			if _, ok := after[snap+"/"]; ok || len(after) == 0 {
				continue
			}
			for table, rows := range r.acknowledged {
				if !strings.Contains(table, "/") {
					after[snap+"/"+table] = rows
				}
			}
			after[snap+"/"] = nil
			op = func() error { _, err := b.Snapshot(ctx, snap); return err }
		case 11, 12:
			snap := []string{"x", "y"}[r.opRand.IntN(2)]
			if _, ok := after[snap+"/"]; !ok {
				continue
			}
			if k == 12 {
				maps.DeleteFunc(after, func(name string, _ []int64) bool { return strings.HasPrefix(name, snap+"/") })
				op = func() error { return b.DeleteSnapshot(ctx, snap) }
				break
			}
			maps.DeleteFunc(after, func(name string, _ []int64) bool { return !strings.Contains(name, "/") })
			for name, rows := range r.acknowledged {
				if table, ok := strings.CutPrefix(name, snap+"/"); ok && table != "" {
					after[table] = rows
				}
			}
			op = func() error { return b.Restore(ctx, snap) }
		}
		r.mu.Lock()
		r.inFlight = after
		r.everyCall = everyCall
		r.mu.Unlock()
		if err := op(); err != nil {
			return err
		}
		r.mu.Lock()
		r.acknowledged = after
		stop := r.err != nil
		r.mu.Unlock()
		if stop {
			return nil
		}
	}
	return nil
}

// TestCrash simulates power losses and kills. PARTD_CRASHES sets how many, and PARTD_CRASH_SEED the first seed.
func TestCrash(t *testing.T) {
	t.Parallel()
	const crashesPerSeed = 100
	n, first := tabletest.Rounds(t, "PARTD_CRASHES", 150), uint64(tabletest.Rounds(t, "PARTD_CRASH_SEED", 0))
	crashedAt := map[string]int{}
	for i := range uint64((n + crashesPerSeed - 1) / crashesPerSeed) {
		r := newCrashRun(t, first+i)
		if err := r.run(min(n, crashesPerSeed)); err != nil {
			t.Fatalf("crash %d; repeat it with PARTD_CRASH_SEED=%d: %v", r.crashCount, first+i, err)
		}
		for call, n := range r.crashedAt {
			crashedAt[call] += n
		}
		if i%100 == 99 {
			t.Logf("%d crashes", (i+1)*crashesPerSeed)
		}
	}
	t.Logf("crashes by kind of call: %v", crashedAt)
	for _, call := range []string{
		"open .parquet", "write .parquet", "sync .parquet", "syncdir ", "write .avro", "sync .avro", "write .json", "sync .json", "tail", "commit", "after commit",
	} {
		if crashedAt[call] == 0 && n >= 150 {
			t.Errorf("no crash at a call %q, want some", call)
		}
	}
}

// TestPowerLossOfEmptyTable checks that a table's directory survives a power loss if the first synced file in it is
// written by a change of settings, which writes no data file.
func TestPowerLossOfEmptyTable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		r := newCrashRun(t, seed)
		s := openHooked(t, r.dir, &tables.Options{Tail: r.tail, FoldAge: -1}, r.hooks)
		tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend)
		must.Do(t, s.Bucket("").Table("a").SetSettings(t.Context(), tables.Settings{Keys: []string{"n"}}))
		r.acknowledged["a"] = nil
		must.Do(t, errors.Join(r.check(t.Context()), s.Close()))
	}
}
