package tables_test

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestPayingRuns appends files of 100 kB for a simulated week. At every moment, there must be few small files, and each
// byte must be rewritten only a few times.
func TestPayingRuns(t *testing.T) {
	for _, suffixOnly := range []bool{false, true} {
		var files []int64
		var written, live int64
		maxSmall := 0
		for range 7 * 24 * 60 {
			const size = 100_000
			files, live = append(files, size), live+size
			small := 0
			for _, f := range files {
				if f < 96<<20 {
					small++
				}
			}
			maxSmall = max(maxSmall, small)
			for {
				start, n := tables.PayingRun(files, suffixOnly, len(files))
				if n == 0 {
					break
				}
				var sum int64
				for _, f := range files[start : start+n] {
					sum += f
				}
				files, written = slices.Replace(files, start, start+n, sum), written+sum
			}
		}
		if maxSmall > 20 || float64(written) > 8*float64(live) {
			t.Errorf("suffixOnly=%v: up to %d small files, and %.1f bytes written for each byte; want at most 20 and 8", suffixOnly, maxSmall, float64(written)/float64(live))
		}
		t.Logf("suffixOnly=%v: up to %d small files, %.1f bytes written for each byte, %d files", suffixOnly, maxSmall, float64(written)/float64(live), len(files))
	}
	const mb = 1 << 20
	for _, c := range []struct {
		sizes      string
		suffixOnly bool
		start, n   int
		commit     int // index of the first file of the last commit, or 0 if each file has its own commit
	}{
		{"1 1 1 1 1", false, 0, 0, 0},                         // too few
		{"1 1 1 1 1 1", false, 0, 6, 0},                       // enough
		{"90 1 1 1 1 1 1", false, 1, 6, 0},                    // a large file waits for more
		{"120 1 1 1 1 1 1 120", false, 1, 6, 0},               // between large files
		{"1 1 1 1 1 1 120 1 1", true, 0, 0, 0},                // only the newest
		{"120 20 20 20 20 20 20", true, 0, 7, 0},              // a large file, if it overlaps
		{"1 1 1 1 1 1 1 90 1", false, 0, 8, 0},                // before a file that stops the newest run
		{"120 120 120 120 120 120", false, 0, 0, 0},           // all large
		{"1 1 1 1 1 1 1 120 120", false, 0, 9, 6},             // a commit of several files is merged as a whole
		{"1 1 1 1 1 1 1 120 120 120 120 120", false, 0, 6, 6}, // but not a large one
	} {
		var sizes []int64
		for _, text := range strings.Fields(c.sizes) {
			n, _ := strconv.ParseInt(text, 10, 64)
			sizes = append(sizes, n*mb)
		}
		if start, n := tables.PayingRun(sizes, c.suffixOnly, cmp.Or(c.commit, len(sizes))); start != c.start || n != c.n {
			t.Errorf("files of %s MiB, suffixOnly=%v: run %d+%d, want %d+%d", c.sizes, c.suffixOnly, start, n, c.start, c.n)
		}
	}
}

// TestMaintainKeepsOrder puts files of very different sizes. Maintenance must keep the order of the rows in a table
// without settings, also between merged files and the files that it leaves alone.
func TestMaintainKeepsOrder(t *testing.T) {
	t.Parallel()
	s := openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FileBytes: 40_000})
	b, next, merged := s.Bucket(""), int64(0), 0
	for i := range 60 {
		count := int64(1)
		if i%15 == 14 {
			count = 150_000 // several files in one commit
		}
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(next, count)...)
		next += count
		if i%20 == 0 { // also after a large put, whose rows must stay after the earlier ones
			merged += tabletest.Maintain(t, s, nil).FilesBefore
		}
	}
	merged += tabletest.Maintain(t, s, nil).FilesBefore
	got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil)
	if err != nil || !slices.Equal(got, tabletest.Sequence(0, next)) {
		t.Errorf("%d rows, error %v; want 0 to %d in order", len(got), err, next-1)
	}
	if state := tabletest.MaintenanceOf(t, b, "t"); merged < 30 || state.SmallFiles > 20 {
		t.Errorf("%d files were merged, state %+v; want at least 30, and at most 20 small files", merged, state)
	}
}

// TestMaintainLease checks that only one process maintains a catalog, until its lease ends or the clock has been set.
func TestMaintainLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := tabletest.Open(t, dir, &tables.Options{NoTail: true}), tabletest.Open(t, dir, &tables.Options{NoTail: true})
	take := func(holder string) {
		t.Helper()
		if ok, err := one.Catalog().TakeLease(t.Context(), "maintenance", holder, 15*time.Second); err != nil || !ok {
			t.Fatal("TakeLease:", ok, err)
		}
	}
	take("other")
	for _, s := range []*tables.Store{one, two} {
		must.Fail(t, must.Err(s.Maintain(t.Context(), nil)), tables.ErrInUse, "during a lease")
	}
	tabletest.ExecInCatalog(t, dir, `UPDATE partd_info SET value='1 other' WHERE key='lease maintenance'`)
	tabletest.Maintain(t, two, nil)
	tabletest.Maintain(t, one, nil) // the lease of two ended with its pass
	tabletest.ExecInCatalog(t, dir, `INSERT INTO partd_info VALUES ('lease maintenance', '99999999999999 other')`)
	tabletest.Maintain(t, two, nil)
	take("other")
	must.Do(t, one.Catalog().DropLease(t.Context(), "maintenance", "another"))
	if ok, err := one.Catalog().TakeLease(t.Context(), "maintenance", "x", 15*time.Second); ok || err != nil {
		t.Errorf("TakeLease of a lease that only its holder may drop = %v, %v", ok, err)
	}
}

// TestMaintainFailures checks that a failing table does not prevent the maintenance of others, and is tried again after
// a pause.
func TestMaintainFailures(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "bad", tables.PutAppend, i)
		tabletest.Put(t, b, "good", tables.PutAppend, i)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `CREATE TRIGGER fail BEFORE UPDATE ON iceberg_tables WHEN OLD.table_name='bad' BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	if r, err := s.Maintain(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) || r.Tables != 1 {
		t.Errorf("Maintain = %+v, %v; want an error about bad, and one table", r, err)
	}
	if state := tabletest.MaintenanceOf(t, b, "bad"); time.Until(state.Next) < 30*time.Second || !strings.Contains(state.Reason, "no space") || s.MaintenanceSummary().Failing != 1 {
		t.Errorf("state %+v, summary %+v; want a retry in a minute", state, s.MaintenanceSummary())
	}
	tabletest.Maintain(t, s, nil) // not yet tried again
	tabletest.ExecInCatalog(t, s.Dir(), `DROP TRIGGER fail`)
	s.RetryMaintenanceAt("bad", time.Now().Add(240*time.Hour)) // as if somebody had set the clock back
	if r := tabletest.Maintain(t, s, nil); r.Tables != 1 || s.MaintenanceSummary().Failing != 0 {
		t.Errorf("after the repair: Maintain = %+v, summary %+v", r, s.MaintenanceSummary())
	}
}

// TestMaintainGivesWay checks that a pass leaves a table alone while an engine may be about to commit, but not for
// ever.
func TestMaintainGivesWay(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	must.Get(tables.LoadIceberg(t.Context(), b.Table("t")))(t)
	if r := tabletest.Maintain(t, s, nil); r.FilesBefore != 0 || !strings.Contains(tabletest.MaintenanceOf(t, b, "t").Reason, "engine") {
		t.Errorf("after an engine loaded the table: Maintain = %+v, state %+v", r, tabletest.MaintenanceOf(t, b, "t"))
	}
	s.PostponedSince("t", time.Now().Add(-time.Hour))
	if r := tabletest.Maintain(t, s, nil); r.FilesBefore != 8 {
		t.Errorf("after an hour: Maintain = %+v, want 8 files merged", r)
	}
}

// TestMergeIsHarmless merges files before or during a put that compares versions. The put must succeed at its first
// attempt.
func TestMergeIsHarmless(t *testing.T) {
	t.Parallel()
	over := func(b *tables.Bucket) error {
		return must.Err(b.Table("t").Put(t.Context(), tabletest.Rows(11, 12), tables.PutReplace, &tables.PutOptions{Over: new(tables.Version(2))}))
	}
	for _, c := range []struct {
		name    string
		put     func(*tables.Bucket) error
		version int               // Iceberg's format version
		props   map[string]string // of the table
		order   []string          // key columns in the settings
		want    []int64
	}{
		{"replace a version", over, 2, nil, nil, []int64{3, 4, 11, 12}},
		{"replace a version with merged manifests", over, 2, map[string]string{table.ManifestMinMergeCountKey: "2"}, nil, []int64{3, 4, 11, 12}},
		{"replace a version with row IDs", over, 3, map[string]string{table.ManifestMinMergeCountKey: "2"}, nil, []int64{3, 4, 11, 12}},
		{"replace a version of an ordered table", over, 2, nil, []string{"n"}, []int64{3, 4, 11, 12}},
		{"append with a rule", func(b *tables.Bucket) error {
			return b.Store().Update(t.Context(), func(txn *tables.Txn) error {
				return txn.Put(b.Name(), "t", tabletest.Rows(11), tables.PutAppend, nil)
			})
		}, 2, nil, nil, []int64{1, 2, 3, 4, 11}},
	} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, before), func(t *testing.T) {
				b := tabletest.BucketWithoutTail(t)
				tabletest.PutRows(t, b, "t", tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Keys: c.order}})
				tabletest.NewEngine(t, b.Store(), b.Name(), "t").Commit(func(tx *table.Transaction) error {
					if c.version > 2 {
						must.Do(t, tx.UpgradeFormatVersion(c.version))
					}
					return tx.SetProperties(c.props)
				})
				for n := range int64(3) {
					tabletest.Put(t, b, "t", tables.PutAppend, n+2)
				}
				if c.want[0] == 1 {
					must.Do(t, b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "once", Kind: "unique", Columns: []string{"n"}, InTable: true}}}))
				}
				merge := func() error { _, err := b.Store().Compact(t.Context(), nil); return err }
				if before {
					must.Do(t, merge())
					merge = func() error { return nil }
				}
				changing, attempts := countingAttempts(t, b, merge)
				if err := c.put(changing); err != nil || *attempts != 1 {
					t.Errorf("%d attempts, error %v; want 1 attempt", *attempts, err)
				}
				tabletest.WantRowsAt(t, b, "t", nil, c.want...)
				if info, err := b.Table("t").Info(t.Context()); err != nil || info.Rows != int64(len(c.want)) {
					t.Errorf("the table has %d rows, error %v; want %d", info.Rows, err, len(c.want))
				}
			})
		}
	}
}

// TestMaintainFindsChanges deletes or updates a row between the writing of the merged file and its commit. The change
// must survive.
func TestMaintainFindsChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*tables.Bucket) error{
		"delete": func(b *tables.Bucket) error {
			return must.Err(b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n == 3")))
		},
		"upsert": func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Upsert(t.Context(), tabletest.Rows(3), &tables.UpsertOptions{Keys: []string{"n"}}))
		},
		"delete file": func(b *tables.Bucket) error {
			tabletest.NewEngine(t, b.Store(), b.Name(), "t").Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(3)))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.BucketWithoutTail(t)
			for n := range int64(2) {
				tabletest.Put(t, b, "t", tables.PutAppend, 4*n, 4*n+1, 4*n+2, 4*n+3)
			}
			for n := range int64(6) {
				tabletest.Put(t, b, "t", tables.PutAppend, 8+n)
			}
			tabletest.NewEngine(t, b.Store(), b.Name(), "t").MergeOnRead(2)
			maintaining, attempts := countingAttempts(t, b, func() error { return change(b) })
			r := tabletest.Maintain(t, maintaining.Store(), nil)
			want := []int64{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
			if name == "upsert" {
				want = append(want, 3)
			}
			got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil)
			slices.Sort(want)
			slices.Sort(got) // DeleteRows and Upsert move rows to the end
			if err != nil || !slices.Equal(got, want) || *attempts != 2 || r.FilesBefore < 7 {
				t.Errorf("Maintain = %+v after %d attempts: rows %v, error %v; want %v after 2 attempts", r, *attempts, got, err, want)
			}
		})
	}
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
	s := openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
	b := s.Bucket("")
	for i := range int64(8) {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	before := tabletest.Maintain(t, s, &tables.MaintainOptions{Buckets: tables.Buckets{""}, Tables: []string{}, Grace: time.Hour}).FilesWaiting
	full.Store(true)
	must.Fail(t, must.Err(s.Maintain(t.Context(), nil)), syscall.ENOSPC, "on a full disk")
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

// TestMaintainWeek simulates a telemetry table: a fold with PARTD_FOLD_ROWS rows each minute, for PARTD_HOURS hours,
// and a pass of maintenance after it. A week has 168 hours, and 10 million rows a day are 7,000 a minute.
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
	s := must.Get(tables.Open(t.Context(), dir, &tables.Options{NoTail: true}))(t)
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
	info := must.Get(b.Table("t").Info(t.Context()))(t)
	if want := int64(hours*60*foldRows + 1); info.Rows != want || worst.SmallFiles > 20 || worst.MetadataBytes > 1<<20 {
		t.Errorf("%d rows, at most %+v; want %d rows, at most 20 small files, and 1 MiB of metadata", info.Rows, worst, want)
	}
	if state := tabletest.MaintenanceOf(t, b, "t"); hours > 48 && state.UnusedBytes == 0 {
		t.Errorf("state %+v: unused files were never looked for", state)
	}
	t.Logf("%d hours: %d rows, %d bytes in %d files; at most %+v", hours, info.Rows, info.Bytes, info.Files, worst)
}

// openWithPanics opens a store with the tables "bad" and "good", which have enough files to merge. While the returned
// value is true, each access to a file of "bad" panics.
func openWithPanics(t *testing.T, o *tables.Options) (*tables.Store, *atomic.Bool) {
	t.Helper()
	var dir atomic.Pointer[string]
	panics := new(atomic.Bool)
	s := openHooked(t, t.TempDir(), o, tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(_ vfstest.Op, name string) error {
		if d := dir.Load(); d != nil && panics.Load() && strings.Contains(name, *d) {
			panic("planted in " + path.Base(name))
		}
		return nil
	})})
	for range 8 {
		for _, name := range []string{"bad", "good"} {
			tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 1, 2)
		}
		tabletest.Fold(t, s)
	}
	location := must.Get(s.Catalog().Location(t.Context(), tables.NamespaceOf(""), "bad"))(t)
	tableDir, _, _ := strings.Cut(location, "/metadata/")
	uuid := path.Base(tableDir)
	dir.Store(&uuid)
	return s, panics
}

// TestMaintenancePanics checks that a panic in the maintenance of a table ends neither the process nor the maintenance of
// other tables, that the table's state says so, and that all locks are released.
func TestMaintenancePanics(t *testing.T) {
	s, panics := openWithPanics(t, &tables.Options{FoldAge: -1})
	for name, run := range map[string]func() error{
		"Maintain": func() error { return must.Err(s.Maintain(t.Context(), nil)) },
		"Compact":  func() error { return must.Err(s.Compact(t.Context(), nil)) },
		"Verify":   func() error { return must.Err(s.Verify(t.Context(), nil)) },
	} {
		panics.Store(true)
		err := run()
		panics.Store(false)
		if err == nil || !strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), "bad") || strings.Contains(err.Error(), `"good"`) {
			t.Errorf("%s: %v, want an error about the table bad only", name, err)
		}
	}
	if state := tabletest.MaintenanceOf(t, s.Bucket(""), "bad"); !strings.Contains(state.Reason, "planted") || state.Next.IsZero() {
		t.Errorf("the state of the maintenance is %+v, want the panic and the time of the next attempt", state)
	}
	if n := s.MaintenanceSummary().Failing; n != 1 {
		t.Errorf("%d tables are failing, want 1", n)
	}
	if state := tabletest.MaintenanceOf(t, s.Bucket(""), "good"); state.SmallFiles != 1 {
		t.Errorf("the other table has %d small files, want 1, because its files were merged", state.SmallFiles)
	}
	tabletest.Put(t, s.Bucket(""), "bad", tables.PutAppend, 3)
	tabletest.Compact(t, s)
	tabletest.WantRows(t, s.Bucket(""), "bad", 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3)
}

// TestFoldPanics checks that a panic in the fold of a table does not prevent folds of other tables in the background,
// and that the table is folded after the cause has ended.
func TestFoldPanics(t *testing.T) {
	s, panics := openWithPanics(t, &tables.Options{FoldAge: 20 * time.Millisecond})
	panics.Store(true)
	for _, name := range []string{"bad", "good"} {
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 3)
	}
	must.Eventually(t, 20*time.Second, "only the rows of the table bad stay in the tail, and its fold has failed", func() bool {
		return s.Backlog().Rows == 1 && s.MaintenanceSummary().FailedFolds == 1
	})
	panics.Store(false)
	if state := tabletest.MaintenanceOf(t, s.Bucket(""), "bad"); !strings.Contains(state.Reason, "planted") || state.Next.IsZero() {
		t.Errorf("the state of the maintenance is %+v, want the panic and the time of the next fold", state)
	}
	must.Eventually(t, 20*time.Second, "the rows of the table bad are folded", func() bool {
		return s.Backlog().Rows == 0 && s.MaintenanceSummary().FailedFolds == 0
	})
	tabletest.WantRows(t, s.Bucket(""), "bad", 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3)
}

// TestFoldFailureEnds checks that any fold that succeeds ends the pause after a failed one, and its report.
func TestFoldFailureEnds(t *testing.T) {
	s, panics := openWithPanics(t, &tables.Options{FoldAge: 2 * time.Second})
	panics.Store(true)
	tabletest.Put(t, s.Bucket(""), "bad", tables.PutAppend, 3)
	must.Eventually(t, 20*time.Second, "the fold has failed", func() bool { return s.MaintenanceSummary().FailedFolds == 1 })
	panics.Store(false)
	tabletest.Fold(t, s)
	tabletest.Put(t, s.Bucket(""), "bad", tables.PutAppend, 4) // the table stays in memory
	if n := s.MaintenanceSummary().FailedFolds; n != 0 {
		t.Errorf("after a fold, %d tables have failed folds, want 0", n)
	}
	if state := tabletest.MaintenanceOf(t, s.Bucket(""), "bad"); strings.Contains(state.Reason, "planted") {
		t.Errorf("after a fold, the state of the maintenance is %+v, want no failure", state)
	}
}
