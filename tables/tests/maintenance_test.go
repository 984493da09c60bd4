package tables_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMaintainDuringWrites runs writers, deletions and readers beside maintenance, for PARTD_MAINTAIN seconds with and
// without maintenance. Every read must contain exactly the rows that a model allows, and no operation may fail.
// PARTD_WRITERS sets the number of writers.
func TestMaintainDuringWrites(t *testing.T) {
	t.Parallel()
	writers, phase := tabletest.Rounds(t, "PARTD_WRITERS", 20), time.Duration(tabletest.Rounds(t, "PARTD_MAINTAIN", 1))*time.Second
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: 20 * time.Millisecond})
	b, ctx := s.Bucket(""), t.Context()
	names := []string{"a", "b"}
	var mu sync.Mutex // guards the model
	acknowledged, deleted := map[string]map[int64]bool{}, map[string]map[int64]bool{}
	for _, name := range names {
		acknowledged[name], deleted[name] = map[int64]bool{}, map[int64]bool{}
		tabletest.Put(t, b, name, tables.PutAppend, -1)
	}
	var next, deleting atomic.Int64
	isDeleting := sync.Map{}
	quantile := func(d []time.Duration, q float64) time.Duration {
		slices.Sort(d)
		return d[int(float64(len(d)-1)*q)]
	}
	run := func(isMaintained bool) (puts []time.Duration) {
		done := make(chan struct{})
		time.AfterFunc(phase, func() { close(done) })
		isDone := func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		var work sync.WaitGroup
		for i := range writers {
			work.Go(func() {
				name := names[i%2]
				for !isDone() {
					first := next.Add(10) - 10
					rows := tabletest.Sequence(first, 10)
					start := time.Now()
					if _, err := b.Table(name).Put(ctx, tabletest.Rows(rows...), tables.PutAppend, nil); err != nil {
						t.Errorf("put: %v", err)
						return
					}
					mu.Lock()
					puts = append(puts, time.Since(start))
					for _, n := range rows {
						acknowledged[name][n] = true
					}
					mu.Unlock()
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		for _, name := range names {
			work.Go(func() { // deletes a row now and then
				for !isDone() {
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					n := int64(-1)
					for row := range acknowledged[name] {
						if !deleted[name][row] {
							n = row
							break
						}
					}
					mu.Unlock()
					if n < 0 {
						continue
					}
					isDeleting.Store(n, true)
					deleting.Add(1)
					where, err := filter.Parse("n == " + strconv.FormatInt(n, 10))
					if err == nil {
						_, err = b.Table(name).DeleteRows(ctx, where)
					}
					if err != nil {
						t.Errorf("delete: %v", err)
						return
					}
					mu.Lock()
					deleted[name][n] = true
					mu.Unlock()
				}
			})
			work.Go(func() {
				for !isDone() {
					mu.Lock()
					must, mustNot := maps.Clone(acknowledged[name]), maps.Clone(deleted[name])
					mu.Unlock()
					got, err := tabletest.ReadAll(ctx, b.Table(name), nil)
					if err != nil {
						t.Errorf("read: %v", err)
						return
					}
					seen := map[int64]bool{}
					for _, n := range got {
						if seen[n] || mustNot[n] {
							t.Errorf("table %s: row %d is doubled or was deleted", name, n)
						}
						seen[n] = true
					}
					for n := range must {
						if _, ok := isDeleting.Load(n); !seen[n] && !ok {
							t.Errorf("table %s: row %d is missing", name, n)
						}
					}
				}
			})
		}
		if isMaintained {
			work.Go(func() {
				for !isDone() {
					tabletest.Maintain(t, s, &tables.MaintainOptions{Keep: 3})
				}
			})
		}
		work.Wait()
		return puts
	}
	without, with := run(false), run(true)
	tabletest.Fold(t, s)
	for range 3 {
		tabletest.Maintain(t, s, &tables.MaintainOptions{Keep: 3})
	}
	for _, name := range names {
		if state := tabletest.MaintenanceOf(t, b, name); state.Files > 20 || state.Versions > 20 {
			t.Errorf("table %s: state %+v, want at most 20 files and versions", name, state)
		}
	}
	t.Logf("%d writers: without maintenance %d puts, p50 %v, p99 %v; with maintenance %d puts, p50 %v, p99 %v; %d deletions", writers,
		len(without), quantile(without, 0.5), quantile(without, 0.99), len(with), quantile(with, 0.5), quantile(with, 0.99), deleting.Load())
}

// TestMaintainSmallFiles merges many files of one row. PARTD_SMALL_FILES sets their number. The rows must keep their
// order, every version must stay readable, and a commit must hold other commits up only briefly.
func TestMaintainSmallFiles(t *testing.T) {
	t.Parallel()
	n := int64(tabletest.Rounds(t, "PARTD_SMALL_FILES", 60))
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range n {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	tabletest.PutRows(t, b, "ordered", tabletest.Rows(0), tables.PutReplace, &tables.PutOptions{Settings: &tables.Settings{Keys: []string{"n"}}})
	before := must.Get(b.Table("t").Versions(t.Context()))(t)
	start, slowest, done := time.Now(), time.Duration(0), make(chan struct{})
	writers := sync.WaitGroup{}
	writers.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			began := time.Now()
			tabletest.Put(t, b, "t", tables.PutAppend, n)
			slowest, n = max(slowest, time.Since(began)), n+1
		}
	})
	r := tabletest.Maintain(t, s, nil)
	close(done)
	writers.Wait()
	t.Logf("%d files merged into %d within %v; the slowest of %d puts meanwhile took %v", r.FilesBefore, r.FilesAfter, time.Since(start), n-int64(len(before)), slowest)
	tabletest.Maintain(t, s, nil)
	if state := tabletest.MaintenanceOf(t, b, "t"); state.Files > 20 || r.FilesBefore < len(before)-20 || state.Last.IsZero() || state.Reason != "" {
		t.Errorf("Maintain = %+v, state %+v; want at most 20 files", r, state)
	}
	got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil)
	if err != nil || !slices.Equal(got, tabletest.Sequence(0, n)) {
		t.Errorf("rows %v, error %v; want 0 to %d in order", got, err, n-1)
	}
	for _, v := range []int{0, len(before) / 2, len(before) - 1} {
		old := must.Get(b.Table("t").At(t.Context(), tables.AtVersion(before[v].Version)))(t)
		if got, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(got)) != before[v].Rows {
			t.Errorf("version %d: %d rows, error %v; want %d", before[v].Version, len(got), err, before[v].Rows)
		}
	}
	if r := tabletest.Maintain(t, s, nil); r != (tables.MaintainResult{}) {
		t.Errorf("the last pass = %+v, want nothing to do", r)
	}
}

// TestMaintainStops checks that a pass stops within a second of the end of its context, and leaves no files behind.
func TestMaintainStops(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range 100 {
		tabletest.Put(t, b, fmt.Sprint("t", i%10), tables.PutAppend, int64(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	start := time.Now()
	r, err := s.Maintain(ctx, nil)
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Second || r.Tables == 10 {
		t.Errorf("Maintain = %+v, %v after %v; want context.Canceled within a second, before all tables are done", r, err, time.Since(start))
	}
	tabletest.Maintain(t, s, nil)
	for i := range 10 {
		if state := tabletest.MaintenanceOf(t, b, fmt.Sprint("t", i)); state.Files != 1 {
			t.Errorf("table t%d has %d files after the next pass, want 1", i, state.Files)
		}
	}
}
