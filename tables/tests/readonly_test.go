package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReadOnly checks that a read-only Store, opened while another Store writes, has the rows that existed when it was
// opened, including those in the tail. It must change nothing.
func TestReadOnly(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	s := must.Get(tables.Open(ctx, dir, &tables.Options{FoldAge: -1}))(t)
	b := s.Bucket("")
	put := func(n ...int64) {
		t.Helper()
		tabletest.PutRows(t, b, "t", tabletest.Rows(n...), tables.PutAppend, nil)
	}
	put(tabletest.Sequence(0, 100)...)
	tabletest.Fold(t, s)
	put(100)
	before := tabletest.ListFiles(t, dir)
	r := must.Get(tables.Open(ctx, dir, &tables.Options{ReadOnly: true}))(t)
	if !r.ReadOnly() || s.ReadOnly() {
		t.Errorf("ReadOnly = %v for the read-only Store and %v for the other, want true and false", r.ReadOnly(), s.ReadOnly())
	}
	read := func() []int64 {
		t.Helper()
		table := r.Bucket("").Table("t")
		ns := must.Get(tabletest.ReadAll(ctx, table, nil))(t)
		slices.Sort(ns)
		return ns
	}
	if got := read(); !slices.Equal(got, tabletest.Sequence(0, 101)) {
		t.Errorf("the read-only Store has rows %+v, want %v", got, tabletest.Sequence(0, 101))
	}
	wantNoChanges(t, r)
	must.Get(r.Fold(ctx, nil))(t)
	if !slices.Equal(tabletest.ListFiles(t, dir), before) {
		t.Error("the read-only Store changed the directory")
	}
	put(101)
	tabletest.Fold(t, s)
	if got := read(); !slices.Equal(got, tabletest.Sequence(0, 101)) {
		t.Errorf("after a later put, the read-only Store has rows %+v, want %v", got, tabletest.Sequence(0, 101))
	}
	must.Do(t, errors.Join(r.Close(), s.Close()))
	if remaining, err := os.ReadDir(os.TempDir()); err != nil || len(remaining) > 0 {
		t.Errorf("the temporary directory contains %v, want it empty; error: %v", remaining, err)
	}
	if _, err := tables.Open(ctx, t.TempDir(), &tables.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an empty directory: error = %v, want fs.ErrNotExist", err)
	}
}

// TestReadOnlyKeepsLocks opens a copy of a Store in the same process. Another program must then not remove the log of
// that Store.
func TestReadOnlyKeepsLocks(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip(err)
	}
	s := tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	r := must.Get(tables.Open(t.Context(), s.Dir(), &tables.Options{ReadOnly: true}))(t)
	must.Do(t, r.Close())
	must.Do(t, exec.Command(program, filepath.Join(s.Dir(), "catalog.db"), "SELECT * FROM iceberg_tables").Run())
	must.Get(os.Stat(filepath.Join(s.Dir(), "catalog.db-wal")))(t)
}

// appendChild appends rows until it is killed, and prints the row count after each append. Its arguments are the
// directory, Options.Catalog and Options.NoTail.
func appendChild(args []string) error {
	ctx := context.Background()
	s, err := tables.Open(ctx, args[0], &tables.Options{Catalog: args[1], NoTail: args[2] == "true", FoldAge: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	for n := int64(0); ; n++ {
		if _, err := s.Bucket("").Table("t").Put(ctx, tabletest.Rows(n), tables.PutAppend, nil); err != nil {
			return err
		}
		fmt.Println(n + 1)
		time.Sleep(2 * time.Millisecond) // leaves the processor to the reader
	}
}

// startChild starts a child process. It returns the last row count that the child printed, which is
// updated concurrently, and a function that kills the child.
func startChild(t *testing.T, dir string, o *tables.Options) (printed *atomic.Int64, kill func()) {
	t.Helper()
	p := procs.Start(t, procs.Command("appends", dir, o.Catalog, fmt.Sprint(o.NoTail)))
	printed = &atomic.Int64{}
	outputEnded, firstLine := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(outputEnded)
		isFirst := true
		for line := range p.Lines() {
			rows, _ := strconv.ParseInt(line, 10, 64)
			if printed.Store(rows); isFirst {
				close(firstLine)
				isFirst = false
			}
		}
	}()
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		p.KillAfter(0)
		<-outputEnded
		p.WaitKilled(t)
	}
	t.Cleanup(kill)
	select {
	case <-firstLine:
	case <-outputEnded:
		kill()
		t.Fatal("the child process ended before it was killed")
	}
	return printed, kill
}

// readOnlyRows returns how many rows a read-only Store reads, and whether it sees rows in the tail. The rows' numbers
// must be consecutive.
func readOnlyRows(t *testing.T, dir string, o tables.Options) (rows int64, seesTail bool) {
	t.Helper()
	o.ReadOnly = true
	s := must.Get(tables.Open(t.Context(), dir, &o))(t)
	defer s.Close() //nolint:errcheck // it was only read
	got, _, err := tabletest.Read(t.Context(), s.Bucket(""), "t")
	must.Do(t, err)
	if !slices.Equal(got, tabletest.Sequence(0, int64(len(got)))) {
		t.Fatalf("the numbers of the %d rows have gaps or repetitions: %v", len(got), got)
	}
	return int64(len(got)), s.SeesTail()
}

// TestReadOnlyDuringWrites opens read-only Stores while another process keeps appending, and after that process
// was killed. They must see each acknowledged row, and change nothing.
func TestReadOnlyDuringWrites(t *testing.T) {
	for name, o := range map[string]tables.Options{
		"directory": {}, "no tail": {NoTail: true}, "postgres": {Catalog: "start"},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Catalog != "" {
				o.Catalog = procs.StartPostgres(t).URL()
			}
			t.Setenv("TMPDIR", t.TempDir())
			dir := t.TempDir()
			printed, kill := startChild(t, dir, &o)
			for range procs.Kills(t, 6) {
				acknowledged := printed.Load()
				if got, seesTail := readOnlyRows(t, dir, o); got < acknowledged || seesTail == o.NoTail {
					t.Fatalf("read %d rows, want at least %d; SeesTail = %v, want %v", got, acknowledged, seesTail, !o.NoTail)
				}
			}
			before := printed.Load()
			for end := time.Now().Add(time.Minute); printed.Load() == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if printed.Load() == before {
				t.Fatal("the writer stopped appending rows")
			}
			kill()
			filesBefore := tabletest.ListFiles(t, dir)
			got, _ := readOnlyRows(t, dir, o)
			if got < printed.Load() {
				t.Fatalf("after the kill, read %d rows, want at least %d", got, printed.Load())
			}
			if !slices.Equal(tabletest.ListFiles(t, dir), filesBefore) {
				t.Error("the read-only Store changed the directory")
			}
			if remaining, err := os.ReadDir(os.TempDir()); err != nil || len(remaining) > 0 {
				t.Errorf("the temporary directory contains %v, want it empty; error: %v", remaining, err)
			}
			tabletest.WantRows(t, tabletest.Open(t, dir, &o).Bucket(""), "t", tabletest.Sequence(0, got)...)
		})
	}
}

// TestReadOnlyOnPostgres checks that a read-only Store with its catalog in PostgreSQL sees commits as they happen, and
// the rows that were in the tail when it was opened. It must change nothing.
func TestReadOnlyOnPostgres(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	o := tables.Options{Catalog: procs.StartPostgres(t).URL(), FoldAge: -1}
	readOnlyOptions := o
	readOnlyOptions.ReadOnly = true
	if _, err := tables.Open(ctx, t.TempDir(), &readOnlyOptions); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of a directory without tables: error = %v, want fs.ErrNotExist", err)
	}
	s := tabletest.Open(t, dir, &o)
	for n := range int64(2) { // two files, which Compact would merge
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, n)
		tabletest.Fold(t, s)
	}
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 2)
	before := tabletest.ListFiles(t, dir)
	r := tabletest.Open(t, dir, &readOnlyOptions)
	tabletest.WantRows(t, r.Bucket(""), "t", 0, 1, 2)
	wantNoChanges(t, r)
	if !slices.Equal(tabletest.ListFiles(t, dir), before) {
		t.Error("the read-only Store changed the directory")
	}
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 3)
	tabletest.WantRows(t, r.Bucket(""), "t", 0, 1, 2)
	if _, err := r.Bucket("").Table("t").At(ctx, tables.AtTime(time.Now())); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("Table at a time with rows in another Store's tail: error = %v, want ErrReadOnly", err) // only a later fold determines the version of these rows
	}
	tabletest.Fold(t, s)
	tabletest.WantRows(t, r.Bucket(""), "t", 0, 1, 2, 3)
}

// wantNoChanges checks that a read-only store refuses operations that would change it.
func wantNoChanges(t *testing.T, s *tables.Store) {
	t.Helper()
	ctx, b, errs := t.Context(), s.Bucket(""), map[string]error{}
	_, errs["put"] = b.Table("t").Put(ctx, tabletest.Rows(1), tables.PutAppend, nil)
	_, errs["snapshot"] = b.Snapshot(ctx, "s")
	_, errs["expire"] = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
	_, errs["compact"] = s.Compact(ctx, nil)
	_, errs["lock"] = b.Table("t").Lock(ctx)
	errs["delete"] = b.Delete(ctx, "t")
	errs["delete bucket"] = s.DeleteBucket(ctx, "", true)
	errs["delete snapshots"] = b.DeleteSnapshots(ctx)
	errs["rules"] = b.EditRules(ctx, tables.RuleEdit{})
	for operation, err := range errs {
		must.Fail(t, err, tables.ErrReadOnly, "%s on a read-only Store", operation)
	}
}

// TestReadOnlyGivenTail checks that a read-only Store reads a tail from Options.Tail, and does not write to it.
func TestReadOnlyGivenTail(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	tail := partd.NewDict()
	s := tabletest.Open(t, dir, &tables.Options{Tail: tail, FoldAge: -1})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 0, 1)
	before := must.Get(partd.Stat(ctx, tail))(t)
	r := tabletest.Open(t, dir, &tables.Options{Tail: tail, ReadOnly: true})
	tabletest.WantRows(t, r.Bucket(""), "t", 0, 1)
	tabletest.Fold(t, s)
	tabletest.WantRows(t, r.Bucket(""), "t", 0, 1)
	if withoutTail := tabletest.Open(t, dir, &tables.Options{NoTail: true, ReadOnly: true}); withoutTail.SeesTail() || !r.SeesTail() {
		t.Errorf("SeesTail = %v with NoTail and %v with Tail, want false and true", withoutTail.SeesTail(), r.SeesTail())
	}
	if after, err := partd.Stat(ctx, tail); err != nil || after.Keys >= before.Keys {
		t.Errorf("tail after the fold: Stat = %+v, %v; want fewer keys than before, %+v", after, err, before)
	}
}

// TestReadOnlyRestoresNoFiles checks that if a metadata file is lost, a read-only Store reads the metadata from the
// catalog, and does not write the file again.
func TestReadOnlyRestoresNoFiles(t *testing.T) {
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 0)
	for _, file := range tabletest.ListFiles(t, dir) {
		if path, _, _ := strings.Cut(file, ".metadata.json"); path != file {
			must.Do(t, os.Remove(path+".metadata.json"))
		}
	}
	before := tabletest.ListFiles(t, dir)
	tabletest.WantRows(t, tabletest.Open(t, dir, &tables.Options{ReadOnly: true}).Bucket(""), "t", 0)
	if !slices.Equal(tabletest.ListFiles(t, dir), before) {
		t.Error("the read-only Store changed the directory")
	}
}
