package tables

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// syncWriters is the number of writers that append to two tables at once. Each may append
// rowsOfSyncWriter rows.
const (
	syncWriters      = 12
	rowsOfSyncWriter = 1_000_000
)

// writeSynced has writers append rows, each with an id, until an append fails. It calls
// acknowledged for each acknowledged row.
func writeSynced(ctx context.Context, s *Store, acknowledged func(table int, row int64)) {
	var all sync.WaitGroup
	for w := range syncWriters {
		all.Go(func() {
			for i := range int64(rowsOfSyncWriter) {
				row := int64(w)*rowsOfSyncWriter + i
				if _, err := s.Bucket("").Put(ctx, fmt.Sprint("t", w%2), rowsOf(row), PutAppend, &PutOptions{ID: fmt.Sprint(row)}); err != nil {
					return
				}
				acknowledged(w%2, row)
			}
		})
	}
	all.Wait()
}

// rowsSynced collects the rows acknowledged to writers, by table.
type rowsSynced struct {
	mu   sync.Mutex
	rows [2][]int64
}

func (r *rowsSynced) add(table int, row int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[table] = append(r.rows[table], row)
}

func (r *rowsSynced) now() [2][]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return [2][]int64{slices.Clone(r.rows[0]), slices.Clone(r.rows[1])}
}

// wantAtLeast checks that the tables of a directory contain each wanted row once. Each
// writer may have one more row that was in flight.
func wantAtLeast(t *testing.T, dir string, o *Options, want [2][]int64) {
	t.Helper()
	s := mustOpen(t, dir, o)
	for table, want := range want {
		got, _, err := read(t.Context(), s.Bucket(""), fmt.Sprint("t", table))
		if err != nil {
			t.Fatal(err)
		}
		there := map[int64]bool{}
		for _, n := range got {
			if there[n] {
				t.Fatalf("row %d is there twice", n)
			}
			there[n] = true
		}
		for _, n := range want {
			if !there[n] {
				t.Fatalf("row %d was acknowledged, and is not among the %d that are there", n, len(got))
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// powerTail is a tail store in memory. A power loss loses whatever was written since its last
// sync began.
type powerTail struct {
	*memTail
	durable atomic.Pointer[memTail]
}

func (p *powerTail) Sync(context.Context) error {
	before := p.clone()
	time.Sleep(time.Millisecond)
	p.durable.Store(before)
	return nil
}

// TestPowerLossBesideWriters checks that rows acknowledged to writers that share syncs survive a
// power loss at any time.
func TestPowerLossBesideWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &powerTail{memTail: &memTail{values: map[string][]byte{}, around: func() {}}}
	s := mustOpen(t, dir, &Options{Tail: p, Sync: true, FoldAge: -1})
	for table := range 2 {
		mustPut(t, s.Bucket(""), fmt.Sprint("t", table), PutAppend, -1)
	}
	type loss struct {
		acknowledged [2][]int64
		left         *memTail
	}
	var losses []loss
	var acknowledged rowsSynced
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		writeSynced(ctx, s, acknowledged.add)
		close(done)
	}()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		l := loss{acknowledged: acknowledged.now()}
		l.left = p.durable.Load()
		losses = append(losses, l)
	}
	cancel()
	<-done
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, l := range losses {
		wantAtLeast(t, dir, &Options{Tail: l.left, FoldAge: -1}, l.acknowledged)
	}
	if n := acknowledged.now(); len(n[0]) == 0 || len(n[1]) == 0 {
		t.Fatal("nothing was acknowledged")
	}
}

// TestCloseBesideWriters checks that Close ends appends that wait for a sync, and keeps
// acknowledged rows, while folds run.
func TestCloseBesideWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 {
		s := mustOpen(t, dir, &Options{Sync: true, FoldBytes: 3000, FoldAge: 5 * time.Millisecond})
		var acknowledged rowsSynced
		done := make(chan struct{})
		go func() {
			writeSynced(t.Context(), s, acknowledged.add)
			close(done)
		}()
		time.Sleep(100 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
		wantAtLeast(t, dir, &Options{FoldAge: -1}, acknowledged.now())
	}
}

const syncKillEnv = "PARTD_TABLES_SYNC_KILL_DIR"

// syncKillChild appends until it is killed, and prints each acknowledged row.
func syncKillChild(dir string) error {
	s, err := Open(context.Background(), dir, &Options{Sync: true, FoldBytes: 3000, FoldAge: 5 * time.Millisecond})
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

// TestKillBesideWriters kills processes whose writers share syncs; PARTD_KILLS sets their
// number.
func TestKillBesideWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[[2]int64]bool{}
	for range rounds(t, "PARTD_KILLS", 3) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), syncKillEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		before := len(acknowledged)
		for lines.Scan() {
			var table, row int64
			if _, err := fmt.Sscan(lines.Text(), &table, &row); err != nil {
				break // the process was killed while it wrote the line
			}
			acknowledged[[2]int64{table, row}] = true
			if len(acknowledged) == before+200 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // it was killed
		var want [2][]int64
		for a := range acknowledged {
			want[a[0]] = append(want[a[0]], a[1])
		}
		wantAtLeast(t, dir, &Options{FoldAge: -1}, want)
	}
}
