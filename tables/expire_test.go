package tables_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestExpireFailedTable checks that Expire removes unused files even if the commit to one table fails, and keeps all
// files that this table needs.
func TestExpireFailedTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for _, name := range []string{"bad", "good", "deleted"} {
		tabletest.Put(t, b, name, tables.PutAppend, 1)
		tabletest.Put(t, b, name, tables.PutReplace, 2)
	}
	must.Do(t, b.Delete(ctx, "deleted"))
	tabletest.ExecInCatalog(t, s.Dir(), `CREATE TRIGGER fail BEFORE UPDATE ON iceberg_tables WHEN OLD.table_name='bad' BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
	if err == nil || errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), `"bad"`) || strings.Contains(err.Error(), "good") {
		t.Errorf("Expire error = %v, want an error about bad", err)
	}
	if r.Tables != 1 || r.Versions != 1 || r.FilesRemoved < 2 {
		t.Errorf("Expire = %+v, want Tables 1, Versions 1 and removed files", r)
	}
	tabletest.WantRowsAt(t, b, "bad", tables.AtVersion(1), 1)
	tabletest.WantRows(t, b, "bad", 2)
	tabletest.WantRows(t, b, "good", 2)
	tabletest.WantIntact(t, s)
	missing := &tables.MaintainOptions{Grace: -1, Buckets: tables.Buckets{""}, Tables: []string{"missing"}}
	if r, err := s.Expire(ctx, missing); err == nil || r != (tables.MaintainResult{}) {
		t.Errorf("Expire of a missing table = %+v, %v, want only an error", r, err)
	}
	must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Buckets: tables.Buckets{""}, Tables: []string{"good"}}))(t)
	tabletest.ExecInCatalog(t, s.Dir(), `DROP TRIGGER fail`)
	if r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil || r.Tables != 1 || r.Versions != 1 || r.FilesRemoved == 0 {
		t.Errorf("Expire = %+v, %v, want Tables 1, Versions 1 and removed files", r, err)
	}
	tabletest.WantRows(t, b, "bad", 2)
}

// TestGracePeriodRestarts checks that a file's grace period starts again if Expire records the file as unused, then the
// file is committed, and then it becomes unused again. Otherwise, Expire could remove a file that a reader still reads.
func TestGracePeriodRestarts(t *testing.T) {
	t.Parallel()
	var s *tables.Store
	recorded := 0
	h := tables.Hooks{OnPrepared: func() {
		if recorded == 0 {
			r, err := s.Expire(t.Context(), &tables.MaintainOptions{Keep: 100})
			must.Check(t, err)
			recorded += r.FilesWaiting
		}
	}}
	s = openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, h)
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	if recorded == 0 {
		t.Fatal("Expire recorded no unused files before the commit")
	}
	for _, drop := range []func() error{
		func() error {
			return must.Err(b.Table("a").Put(t.Context(), tabletest.Rows(2), tables.PutReplace, nil))
		},
		func() error { return b.Delete(t.Context(), "a") },
	} {
		r := must.Get(b.Table("a").Scan(t.Context(), nil))(t)
		must.Do(t, drop())
		must.Get(s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
		if !r.Next() || r.RecordBatch().NumRows() != 1 {
			t.Fatalf("the scan returned no batch of one row; error: %v", r.Err())
		}
		r.Release()
	}
}

// TestExpireDuringExpire runs Expire while another Expire is about to commit: the new files of the
// pending commit must stay.
func TestExpireDuringExpire(t *testing.T) {
	t.Parallel()
	var s *tables.Store
	armed := false
	h := tables.Hooks{OnCommit: func(done bool) {
		if armed && !done {
			armed = false
			must.Check(t, must.Err(s.Expire(t.Context(), &tables.MaintainOptions{Buckets: tables.Buckets{""}, Tables: []string{}, Grace: -1})))
		}
	}}
	s = openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, h)
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	tabletest.Put(t, b, "a", tables.PutAppend, 2)
	armed = true
	must.Get(s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}))(t)
	must.Do(t, s.Close())
	tabletest.WantRows(t, tabletest.Open(t, s.Dir(), nil).Bucket(""), "a", 1, 2)
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
	for name, o := range settings {
		tabletest.PutRows(t, b, name, tabletest.Rows(0), tables.PutReplace, &tables.PutOptions{Settings: o})
		for i := range int64(4) {
			tabletest.Put(t, b, name, tables.PutAppend, i+1)
		}
	}
	foreignUpdate(t, b, "gc", table.NewSetPropertiesUpdate(iceberg.Properties{table.GCEnabledKey: "false"}))
	foreignUpdate(t, b, "property", table.NewSetPropertiesUpdate(iceberg.Properties{table.MinSnapshotsToKeepKey: "4"}))
	cur := must.Get(s.Catalog().Load(t.Context(), tables.NamespaceOf(""), "tag"))(t)
	tagged := cur.Metadata().Snapshots()[1].SnapshotID
	foreignUpdate(t, b, "tag", table.NewSetSnapshotRefUpdate("t", tagged, table.TagRef, -1, -1, -1))
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
	must.Do(t, b.Delete(t.Context(), "deleted"))
	stray := tabletest.TableFiles(t, s, "", "kept")["data"][0] + ".old"
	must.Do(t, os.WriteFile(stray, []byte("x"), 0o600))
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
		must.Do(t, s.Catalog().SetMoment(t.Context(), "maintenance swept", at))
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
		files := must.Get(filepath.Glob(filepath.Join(dirs[name], pattern)))(t)
		return len(files)
	}
	for _, name := range []string{"kept", "expiring"} {
		for i := range int64(3) {
			tabletest.PutRows(t, b, name, tabletest.Rows(i), tables.PutReplace, nil)
		}
		dirs[name] = filepath.Dir(filepath.Dir(tabletest.TableFiles(t, s, "", name)["data"][0]))
		must.Do(t, os.WriteFile(filepath.Join(dirs[name], "data", "stray"), []byte("x"), 0o600))
	}
	must.Do(t, b.Table("expiring").SetSettings(t.Context(), tables.Settings{KeepVersions: 1}))
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
		must.Do(t, s.Catalog().SetMoment(t.Context(), "maintenance swept", time.Now().Add(-last)))
		tabletest.Maintain(t, s, nil)
		for name, want := range map[string]int{"kept": c.kept, "expiring": c.expiring} {
			if metadata, data := count(name, "metadata/*.metadata.json"), count(name, "data/*"); data != want || (metadata == 1) != (c.after > time.Hour) {
				t.Errorf("after %v: table %s has %d metadata files and %d data files, want %d", c.after, name, metadata, data, want)
			}
		}
	}
}
