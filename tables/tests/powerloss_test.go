package tables_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// syncWriters is the number of writers that append to two tables concurrently. Each can append up to
// rowsPerSyncWriter rows.
const (
	syncWriters       = 12
	rowsPerSyncWriter = 1_000_000
)

// writeSynced runs writers that append rows, each with a put ID, until an append fails. It calls
// acknowledged for each acknowledged row.
func writeSynced(ctx context.Context, s *tables.Store, acknowledged func(table int, row int64)) {
	var writers sync.WaitGroup
	for w := range syncWriters {
		writers.Go(func() {
			for i := range int64(rowsPerSyncWriter) {
				row := int64(w)*rowsPerSyncWriter + i
				if _, err := s.Bucket("").Table(fmt.Sprint("t", w%2)).Put(ctx, tabletest.Rows(row), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(row)}); err != nil {
					return
				}
				acknowledged(w%2, row)
			}
		})
	}
	writers.Wait()
}

// acknowledgedRows collects acknowledged rows by table.
type acknowledgedRows struct {
	mu   sync.Mutex
	rows [2][]int64
}

func (r *acknowledgedRows) add(table int, row int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[table] = append(r.rows[table], row)
}

func (r *acknowledgedRows) copyRows() [2][]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return [2][]int64{slices.Clone(r.rows[0]), slices.Clone(r.rows[1])}
}

// wantAtLeast checks that the tables of a directory contain each row of want once. They may contain
// other rows, because each writer may have written one row that was not acknowledged.
func wantAtLeast(t *testing.T, dir string, o *tables.Options, want [2][]int64) {
	t.Helper()
	s := tabletest.Open(t, dir, o)
	for table, want := range want {
		got, _, err := tabletest.Read(t.Context(), s.Bucket(""), fmt.Sprint("t", table))
		must.Do(t, err)
		present := map[int64]bool{}
		for _, n := range got {
			if present[n] {
				t.Fatalf("row %d occurs twice", n)
			}
			present[n] = true
		}
		for _, n := range want {
			if !present[n] {
				t.Fatalf("acknowledged row %d is missing; the table has %d rows", n, len(got))
			}
		}
	}
	must.Do(t, s.Close())
}

// powerTail is a tail in memory that simulates a power loss. Its field durable is the state that a power loss would
// leave: the state at the beginning of the last completed sync.
type powerTail struct {
	*tabletest.MemTail
	durable atomic.Pointer[tabletest.MemTail]
}

func (p *powerTail) Sync(context.Context) error {
	before := p.Clone()
	time.Sleep(time.Millisecond)
	p.durable.Store(before)
	return nil
}

// TestPowerLossDuringWrites checks that acknowledged rows of writers that share syncs survive a power loss at any time.
func TestPowerLossDuringWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &powerTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	s := tabletest.Open(t, dir, &tables.Options{Tail: p, Sync: true, FoldAge: -1})
	for table := range 2 {
		tabletest.Put(t, s.Bucket(""), fmt.Sprint("t", table), tables.PutAppend, -1)
	}
	type loss struct {
		acknowledged [2][]int64
		durable      *tabletest.MemTail
	}
	var losses []loss
	var acknowledged acknowledgedRows
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		writeSynced(ctx, s, acknowledged.add)
		close(done)
	}()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		l := loss{acknowledged: acknowledged.copyRows()}
		l.durable = p.durable.Load()
		losses = append(losses, l)
	}
	cancel()
	<-done
	must.Do(t, s.Close())
	for _, l := range losses {
		wantAtLeast(t, dir, &tables.Options{Tail: l.durable, FoldAge: -1}, l.acknowledged)
	}
	if n := acknowledged.copyRows(); len(n[0]) == 0 || len(n[1]) == 0 {
		t.Fatalf("acknowledged %d and %d rows of the two tables, want some of both", len(n[0]), len(n[1]))
	}
}

// TestPowerLossAfterCreate checks that the first row of a table survives a power loss as soon as the put returns, even
// without Options.Sync.
func TestPowerLossAfterCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &powerTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	s := tabletest.Open(t, dir, &tables.Options{Tail: p, FoldAge: -1})
	tabletest.Put(t, s.Bucket(""), "t0", tables.PutAppend, 1)
	tabletest.Put(t, s.Bucket(""), "t1", tables.PutAppend, 2)
	durable := p.durable.Load()
	must.Do(t, s.Close())
	wantAtLeast(t, dir, &tables.Options{Tail: durable, FoldAge: -1}, [2][]int64{{1}, {2}})
}

// TestCloseDuringWrites checks that Close, while folds run, stops appends that wait for a sync, and that
// acknowledged rows remain.
func TestCloseDuringWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 {
		s := tabletest.Open(t, dir, &tables.Options{Sync: true, FoldBytes: 3000, FoldAge: 5 * time.Millisecond})
		var acknowledged acknowledgedRows
		done := make(chan struct{})
		go func() {
			writeSynced(t.Context(), s, acknowledged.add)
			close(done)
		}()
		time.Sleep(100 * time.Millisecond)
		must.Do(t, s.Close())
		<-done
		wantAtLeast(t, dir, &tables.Options{FoldAge: -1}, acknowledged.copyRows())
	}
}

// syncKillChild appends to a directory, its argument, until it is killed, and prints each acknowledged row.
func syncKillChild(args []string) error {
	s, err := tables.Open(context.Background(), args[0], &tables.Options{Sync: true, FoldBytes: 3000, FoldAge: 5 * time.Millisecond})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	writeSynced(context.Background(), s, func(table int, row int64) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(table, row)
	})
	return nil
}

// TestKillDuringWrites checks that acknowledged rows of writers that share syncs survive kills; PARTD_KILLS sets how
// many.
func TestKillDuringWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[[2]int64]bool{}
	for range procs.Kills(t, 3) {
		p := procs.Start(t, procs.Command("synced writes", dir))
		before := len(acknowledged)
		for line := range p.Lines() {
			var table, row int64
			must.Get(fmt.Sscan(line, &table, &row))(t)
			acknowledged[[2]int64{table, row}] = true
			if len(acknowledged) == before+200 {
				p.KillAfter(0)
			}
		}
		p.WaitKilled(t)
		var want [2][]int64
		for a := range acknowledged {
			want[a[0]] = append(want[a[0]], a[1])
		}
		wantAtLeast(t, dir, &tables.Options{FoldAge: -1}, want)
	}
}

// TestFirstOpenSynced checks that a power loss during the creation of a Store leaves a tail that can be opened:
// each file's content must be synced before the file gets its final name.
func TestFirstOpenSynced(t *testing.T) {
	t.Parallel()
	dir, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	cmd := procs.Strace(t, procs.Command("synced writes", dir), calls, "-e", "trace=fsync,fdatasync,renameat,renameat2,rename")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out := must.Get(cmd.StdoutPipe())(t)
	must.Do(t, cmd.Start())
	killTimer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	_, _ = out.Read(make([]byte, 1)) // the store is open, and the writer prints its first row
	text, err := os.ReadFile(calls)
	_ = out.Close() // ends the writer, which can no longer print
	_ = cmd.Wait()  // fails because the writer could not print
	killTimer.Stop()
	procs.SkipUntraced(t, stderr.String())
	must.Do(t, err)
	renamePos := regexp.MustCompile(`rename[^\n]*/tail/MANIFEST"`).FindStringIndex(string(text))
	syncPos := regexp.MustCompile(`f(data)?sync\([^\n]*/tail/MANIFEST\.`).FindStringIndex(string(text))
	if renamePos == nil || syncPos == nil || syncPos[0] > renamePos[0] {
		t.Fatalf("the tail's first manifest was renamed at offset %v and synced at offset %v, want a sync before the rename:\n%s", renamePos, syncPos, text)
	}
}
