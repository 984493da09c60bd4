package tables_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
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

// TestMaintainFullDisk checks that a full disk delays maintenance, loses nothing, and leaves no files behind.
func TestMaintainFullDisk(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	fs := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, path string) error {
		if full.Load() && op == vfstest.OpWrite {
			return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		return nil
	})
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
	tabletest.Succeed(t, err)
	t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	before := tabletest.Maintain(t, s, &tables.MaintainOptions{Buckets: tables.Buckets{""}, Tables: []string{}, Grace: time.Hour}).FilesWaiting
	full.Store(true)
	if _, err := s.Maintain(t.Context(), nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: error %v, want ENOSPC", err)
	}
	tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 8)...)
	full.Store(false)
	if r := tabletest.Maintain(t, s, &tables.MaintainOptions{Buckets: tables.Buckets{""}, Tables: []string{}, Grace: time.Hour}); r.FilesWaiting != before {
		t.Errorf("after the full disk, %d files are unused, want %d", r.FilesWaiting, before)
	}
	s.RetryMaintenanceAt("t", time.Time{})
	if r := tabletest.Maintain(t, s, nil); r.FilesBefore != 8 {
		t.Errorf("with space again: Maintain = %+v, want 8 files merged", r)
	}
	tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 8)...)
}

// TestMaintainWeek simulates a telemetry table: a fold with PARTD_FOLD_ROWS rows each minute, for PARTD_HOURS hours, and
// a pass of maintenance after it. A week has 168 hours, and 10 million rows a day are 7,000 a minute.
func TestMaintainWeek(t *testing.T) {
	hours, foldRows := tabletest.Rounds(t, "PARTD_HOURS", 2), tabletest.Rounds(t, "PARTD_FOLD_ROWS", 20)
	for _, isOrdered := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered=%v", isOrdered), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { maintainWeek(t, dir, isOrdered, hours, foldRows) })
		})
	}
}

func maintainWeek(t *testing.T, dir string, isOrdered bool, hours, foldRows int) {
	s, err := tables.Open(t.Context(), dir, &tables.Options{NoTail: true})
	tabletest.Succeed(t, err)
	defer s.Close()
	b := s.Bucket("")
	settings := &tables.Settings{KeepAge: "1h"}
	if hours > 24 {
		settings.KeepAge = "12h"
	}
	if isOrdered {
		settings.Time, settings.Keys = "ts", []string{"k"}
	}
	tabletest.PutRows(t, b, "t", ticksOf([]tick{{0, "a", 0, 0}}, 1), tables.PutReplace, &tables.PutOptions{Settings: settings})
	var worst tables.MaintenanceState
	rows := make([]tick, foldRows)
	for minute := range hours * 60 {
		for i := range rows {
			rows[i] = tick{int64(minute*60 + i*60/foldRows + 1), strconv.Itoa(i % 7), int64(minute*foldRows + i), 0}
		}
		tabletest.PutRows(t, b, "t", ticksOf(rows, len(rows)), tables.PutAppend, nil)
		time.Sleep(time.Minute)
		tabletest.Maintain(t, s, nil)
		state := tabletest.MaintenanceOf(t, b, "t")
		worst.SmallFiles, worst.Files = max(worst.SmallFiles, state.SmallFiles), max(worst.Files, state.Files)
		worst.Versions, worst.MetadataBytes = max(worst.Versions, state.Versions), max(worst.MetadataBytes, state.MetadataBytes)
	}
	info, err := b.Table("t").Info(t.Context())
	tabletest.Succeed(t, err)
	if want := int64(hours*60*foldRows + 1); info.Rows != want || worst.SmallFiles > 20 || worst.MetadataBytes > 1<<20 {
		t.Errorf("%d rows, at most %+v; want %d rows, at most 20 small files, and 1 MiB of metadata", info.Rows, worst, want)
	}
	if state := tabletest.MaintenanceOf(t, b, "t"); hours > 48 && state.UnusedBytes == 0 {
		t.Errorf("state %+v: unused files were never looked for", state)
	}
	t.Logf("%d hours: %d rows, %d bytes in %d files; at most %+v", hours, info.Rows, info.Bytes, info.Files, worst)
}
