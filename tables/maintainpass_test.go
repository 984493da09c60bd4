package tables_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
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
	before, err := b.Table("t").Versions(t.Context())
	tabletest.Succeed(t, err)
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
		old, err := b.Table("t").At(t.Context(), tables.AtVersion(before[v].Version))
		tabletest.Succeed(t, err)
		if got, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(got)) != before[v].Rows {
			t.Errorf("version %d: %d rows, error %v; want %d", before[v].Version, len(got), err, before[v].Rows)
		}
	}
	if r := tabletest.Maintain(t, s, nil); r != (tables.MaintainResult{}) {
		t.Errorf("the last pass = %+v, want nothing to do", r)
	}
}

// TestMaintainKeepsOrder puts files of very different sizes. Maintenance must keep the order of the rows in a table
// without settings, also between merged files and the files that it leaves alone.
func TestMaintainKeepsOrder(t *testing.T) {
	t.Parallel()
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: vfs.OS{}, FileBytes: 40_000})
	tabletest.Succeed(t, err)
	t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
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

// TestMaintainExpires checks which versions expire.
func TestMaintainExpires(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	settings := map[string]*tables.Settings{
		"default": nil, "three": {KeepVersions: 3}, "hour": {KeepAge: "1h"}, "off": {Maintenance: tables.MaintenanceOff, KeepVersions: 1}, "gc": {KeepVersions: 1}, "property": {KeepVersions: 1},
		"tag": {KeepVersions: 1},
	}
	update := func(name string, updates ...table.Update) {
		t.Helper()
		cur, err := s.Catalog().Load(t.Context(), tables.NamespaceOf(""), name)
		tabletest.Succeed(t, err)
		meta, err := table.UpdateTableMetadata(cur.Metadata(), updates, "")
		tabletest.Succeed(t, err)
		tabletest.Succeed(t, s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: tables.NamespaceOf(""), Name: name, Base: cur, New: meta, IOs: []*icecat.FileIO{s.Catalog().NewIO()}}))
	}
	for name, o := range settings {
		tabletest.PutRows(t, b, name, tabletest.Rows(0), tables.PutReplace, &tables.PutOptions{Settings: o})
		for i := range int64(4) {
			tabletest.Put(t, b, name, tables.PutAppend, i+1)
		}
	}
	update("gc", table.NewSetPropertiesUpdate(iceberg.Properties{table.GCEnabledKey: "false"}))
	update("property", table.NewSetPropertiesUpdate(iceberg.Properties{table.MinSnapshotsToKeepKey: "4"}))
	cur, err := s.Catalog().Load(t.Context(), tables.NamespaceOf(""), "tag")
	tabletest.Succeed(t, err)
	update("tag", table.NewSetSnapshotRefUpdate("t", cur.Metadata().Snapshots()[1].SnapshotID, table.TagRef, -1, -1, -1))
	check := func(want map[string]int) {
		t.Helper()
		for name := range settings {
			if n := tabletest.MaintenanceOf(t, b, name).Versions; n != want[name] {
				t.Errorf("table %s has %d versions, want %d", name, n, want[name])
			}
			tabletest.WantRows(t, b, name, 0, 1, 2, 3, 4)
		}
	}
	tabletest.Maintain(t, s, nil)
	check(map[string]int{"default": 5, "three": 3, "hour": 5, "off": 5, "gc": 5, "property": 4, "tag": 2})
	if reason := tabletest.MaintenanceOf(t, b, "gc").Reason; !strings.Contains(reason, "gc.enabled") {
		t.Errorf("the reason for table gc is %q", reason)
	}
	tabletest.Maintain(t, s, &tables.MaintainOptions{Keep: 2})
	check(map[string]int{"default": 2, "three": 3, "hour": 5, "off": 5, "gc": 5, "property": 4, "tag": 2})
	for _, o := range []tables.Settings{{KeepAge: "never"}, {KeepAge: "-1h"}, {KeepVersions: -1}, {Maintenance: "maybe"}} {
		if err := b.Table("default").SetSettings(t.Context(), o); !errors.As(err, new(*tables.ArgumentError)) {
			t.Errorf("settings %+v: error %v, want an ArgumentError", o, err)
		}
	}
}

// TestMaintainSweeps checks that Maintain removes the files of a deleted table after the grace period, but none below a
// table with gc.enabled=false, and that it looks for unused files only every six hours.
func TestMaintainSweeps(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "kept", tables.PutAppend, 1)
	tabletest.Put(t, b, "deleted", tables.PutAppend, 1)
	tabletest.Succeed(t, b.Delete(t.Context(), "deleted"))
	stray := tabletest.TableFiles(t, s, "", "kept")["data"][0] + ".old"
	tabletest.Succeed(t, os.WriteFile(stray, []byte("x"), 0o600))
	if r := tabletest.Maintain(t, s, nil); r.FilesRemoved != 0 || r.FilesWaiting < 2 {
		t.Errorf("the first pass = %+v, want waiting files", r)
	}
	if state := tabletest.MaintenanceOf(t, b, "kept"); state.UnusedBytes != 1 {
		t.Errorf("state %+v, want 1 unused byte", state)
	}
	if r := tabletest.Maintain(t, s, nil); r.FilesWaiting != 0 {
		t.Errorf("the second pass = %+v, want no search for files", r)
	}
	tabletest.ExecInCatalog(t, s.Dir(), `UPDATE partd_orphans SET seen_ms=seen_ms-129600000`)         // 36 h
	for _, at := range []time.Time{time.Now().Add(-7 * time.Hour), time.Now().Add(240 * time.Hour)} { // the second is from before somebody set the clock
		tabletest.Succeed(t, s.Catalog().SetMoment(t.Context(), "maintenance swept", at))
		r := tabletest.Maintain(t, s, nil)
		if at.Before(time.Now()) && r.FilesRemoved < 2 || r.FilesWaiting != 0 {
			t.Errorf("the last search was at %v: Maintain = %+v, want removed files", at, r)
		}
	}
	if _, err := os.Stat(stray); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Maintain did not remove an unused file: error %v", err)
	}
	tabletest.WantRows(t, b, "kept", 1)
}

// TestMaintainSweepsReplacedFiles checks that superseded metadata files go after an hour, and data files only if the
// table's versions expire. Files that nothing has committed wait longer.
func TestMaintainSweepsReplacedFiles(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	dirs := map[string]string{}
	count := func(name, pattern string) int {
		files, err := filepath.Glob(filepath.Join(dirs[name], pattern))
		tabletest.Succeed(t, err)
		return len(files)
	}
	for _, name := range []string{"kept", "expiring"} {
		for i := range int64(3) {
			tabletest.PutRows(t, b, name, tabletest.Rows(i), tables.PutReplace, nil)
		}
		dirs[name] = filepath.Dir(filepath.Dir(tabletest.TableFiles(t, s, "", name)["data"][0]))
		tabletest.Succeed(t, os.WriteFile(filepath.Join(dirs[name], "data", "stray"), []byte("x"), 0o600))
	}
	tabletest.Succeed(t, b.Table("expiring").SetSettings(t.Context(), tables.Settings{KeepVersions: 1}))
	tabletest.Maintain(t, s, nil)
	for _, c := range []struct {
		after    time.Duration
		kept     int // data files
		expiring int
	}{{30 * time.Minute, 4, 4}, {61 * time.Minute, 4, 2}, {31 * time.Hour, 3, 1}} {
		tabletest.ExecInCatalog(t, s.Dir(), fmt.Sprintf(`UPDATE partd_orphans SET seen_ms=%d`, time.Now().Add(-c.after).UnixMilli()))
		last := 11 * time.Minute
		if c.kept < 4 {
			last = 7 * time.Hour // only the strays wait, so there is no hurry
		}
		tabletest.Succeed(t, s.Catalog().SetMoment(t.Context(), "maintenance swept", time.Now().Add(-last)))
		tabletest.Maintain(t, s, nil)
		for name, want := range map[string]int{"kept": c.kept, "expiring": c.expiring} {
			if metadata, data := count(name, "metadata/*.metadata.json"), count(name, "data/*"); data != want || (metadata == 1) != (c.after > time.Hour) {
				t.Errorf("after %v: table %s has %d metadata files and %d data files, want %d", c.after, name, metadata, data, want)
			}
		}
	}
}
