package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/jackc/pgx/v5"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// openHooked opens a store with hooks, by default on the system's files, and closes it at the end of the test.
func openHooked(t testing.TB, dir string, o *tables.Options, h tables.Hooks) *tables.Store {
	t.Helper()
	if h.FS == nil {
		h.FS = vfs.OS{}
	}
	s := must.Get(tables.OpenHooked(t.Context(), dir, o, h))(t)
	t.Cleanup(func() { must.Do(t, s.Close()) })
	return s
}

// TestForeignTable appends to a table that another program created. The other program, which the test simulates, then
// renames the table. The appended rows, which are not yet in data files, must appear under the new name.
func TestForeignTable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := &tables.Options{Tail: partd.NewDict(), FoldAge: -1}
	s := tabletest.Open(t, dir, o)
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	meta := must.Get(table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, s.Catalog().NewLocation(), nil))(t)
	must.Do(t, s.Catalog().Commit(t.Context(), nil, &icecat.Change{Namespace: "x", Name: "a", New: meta, IOs: []*icecat.FileIO{s.Catalog().NewIO()}}))
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 1)
	tabletest.Put(t, s.Bucket("x"), "kept", tables.PutAppend, 5)
	reopen := func() {
		t.Helper()
		must.Do(t, s.Close())
		s = tabletest.Open(t, dir, o)
	}
	reopen()
	tabletest.WantRows(t, s.Bucket("x"), "a", 1)
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 2)
	tabletest.ExecInCatalog(t, dir, `UPDATE iceberg_tables SET table_name='b' WHERE table_name='a'`)
	tabletest.WantMissing(t, s.Bucket("x"), "a")
	tabletest.Put(t, s.Bucket("x"), "a", tables.PutAppend, 9)
	reopen()
	if n := s.Backlog().Rows; n != 4 {
		t.Errorf("before the tables are used, Backlog has %d rows, want 4", n)
	}
	tabletest.WantRows(t, s.Bucket("x"), "b", 1, 2)
	tabletest.Fold(t, s)
	reopen()
	tabletest.WantRows(t, s.Bucket("x"), "b", 1, 2)
	tabletest.WantRows(t, s.Bucket("x"), "a", 9)
}

// TestCatalogFormat checks that Open rejects a catalog with an unknown format.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	must.Do(t, s.Close())
	tabletest.ExecInCatalog(t, s.Dir(), `UPDATE partd_info SET value='3' WHERE key='format'`)
	const want = "use a newer version"
	must.Fail(t, must.Err(tables.Open(t.Context(), s.Dir(), nil)), want, "Open")
}

// TestTerminatedSession checks that if PostgreSQL terminates the session during a commit, nothing changes.
func TestTerminatedSession(t *testing.T) {
	server := procs.StartPostgres(t)
	dir, terminate := t.TempDir(), false
	conn := must.Get(pgx.Connect(t.Context(), server.URL()))(t)
	defer conn.Close(context.Background()) //nolint:errcheck // only cleanup
	s, err := tables.OpenHooked(t.Context(), dir, &tables.Options{Catalog: server.URL(), NoTail: true}, tables.Hooks{FS: vfs.OS{}, OnCommit: func(done bool) {
		if terminate && !done {
			terminate = false
			_, err := conn.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='partd-tables'`)
			must.Check(t, err)
		}
	}})
	must.Do(t, err)
	defer s.Close() //nolint:errcheck // only cleanup
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 0)
	for n := int64(1); n < 4; n++ {
		terminate = true
		for try := 0; ; try++ {
			if _, err = s.Bucket("").Table("a").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(n)}); err == nil {
				break
			}
			if errors.Is(err, partd.ErrUnknownOutcome) || try == 5 {
				t.Fatal(err)
			}
		}
		tabletest.WantRows(t, s.Bucket(""), "a", tabletest.Sequence(0, n+1)...)
	}
}

// TestForeignCommits checks that no row is lost if Iceberg's library appends through a second catalog while the Store
// appends and folds rows.
func TestForeignCommits(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	must.Get(s.Catalog().Load(t.Context(), tables.DefaultNamespace, "a"))(t)
	foreign := must.Get(icecat.Open(t.Context(), s.Dir(), icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer foreign.Close() //nolint:errcheck // the test is over
	const putsPerWriter = 10
	var g sync.WaitGroup
	g.Go(func() {
		for n := range int64(putsPerWriter) {
			must.Check(t, foreignAppend(t.Context(), foreign, tabletest.Rows(100+n)))
		}
	})
	g.Go(func() {
		for n := range int64(putsPerWriter) {
			must.Check(t, must.Err(b.Table("a").Put(t.Context(), tabletest.Rows(1+n), tables.PutAppend, nil)))
			must.Check(t, must.Err(s.Fold(t.Context(), nil)))
		}
	})
	g.Wait()
	tabletest.WantRows(t, b, "a", append(tabletest.Sequence(0, putsPerWriter+1), tabletest.Sequence(100, putsPerWriter)...)...)
	for info, err := range b.Tables(t.Context(), nil) {
		if err != nil || info.Rows != 2*putsPerWriter+1 {
			t.Fatalf("listing yielded %+v, error %v; want %d rows", info, err, 2*putsPerWriter+1)
		}
	}
	// When another program drops a table, the table's rows in the tail (rows not yet in data files) must also be gone.
	tabletest.Put(t, b, "a", tables.PutAppend, 1000)
	tabletest.Put(t, s.Bucket("other"), "b", tables.PutAppend, 1)
	cur := must.Get(foreign.Load(t.Context(), tables.DefaultNamespace, "a"))(t)
	must.Do(t, foreign.Commit(t.Context(), nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: "a", Base: cur, IOs: []*icecat.FileIO{foreign.NewIO()}}))
	if _, err := b.Table("a").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Fatalf("Table error = %v, want ErrNotFound", err)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 7)
	tabletest.WantRows(t, b, "a", 7)
}

func foreignAppend(ctx context.Context, cat *icecat.Catalog, r array.RecordReader) error {
	for {
		t, err := cat.Load(ctx, tables.DefaultNamespace, "a")
		if err != nil {
			return err
		}
		batches := []arrow.RecordBatch{}
		for r.Next() {
			r.RecordBatch().Retain()
			batches = append(batches, r.RecordBatch())
		}
		reader, err := array.NewRecordReader(r.Schema(), batches)
		if err != nil {
			return err
		}
		io := cat.NewIO()
		w := table.New(t.Identifier(), t.Metadata(), t.MetadataLocation(), func(context.Context) (iceio.IO, error) { return io, nil }, libraryCatalog{cat})
		tx := w.NewTransaction()
		if err := tx.SetProperties(iceberg.Properties{table.CommitNumRetriesKey: "50", table.CommitMinRetryWaitMsKey: "2", table.CommitMaxRetryWaitMsKey: "50"}); err != nil {
			return err
		}
		if err := tx.Append(ctx, reader, nil); err != nil {
			return err
		}
		if _, err = tx.Commit(ctx); !errors.Is(err, table.ErrCommitFailed) {
			return err
		}
		r = reader
		if r, err = array.NewRecordReader(r.Schema(), batches); err != nil {
			return err
		}
	}
}

// TestFoldOfForbiddenNulls checks what happens if another process makes a nested field required while the tail (rows
// not yet in data files) has nulls there. Each fold of the table fails, and names it; its rows can be read. Other
// tables are folded, snapshots of other buckets succeed, and so does Close. After the field is optional again, a fold
// succeeds.
func TestFoldOfForbiddenNulls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *tables.Store {
		return tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1})
	}
	s, other := open(), open()
	b := s.Bucket("")
	setRequired := func(required bool) {
		t.Helper()
		base := must.Get(other.Catalog().Load(t.Context(), tables.DefaultNamespace, "a"))(t)
		field := base.Schema().Field(0)
		list := *field.Type.(*iceberg.ListType)
		list.ElementRequired = required
		field.Type = &list
		columns := iceberg.NewSchema(base.Schema().ID+1, field)
		foreignUpdate(t, other.Bucket(""), "a", table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1))
	}
	put := func(rows string) {
		t.Helper()
		r := rowsOfJSON(t, rows, tabletest.Nullable("l", arrow.ListOf(arrow.PrimitiveTypes.Int64)))
		tabletest.PutRows(t, b, "a", r, tables.PutAppend, nil)
	}
	put(`[{"l":[1]}]`)
	must.Get(s.Fold(t.Context(), nil))(t)
	put(`[{"l":[2,null,3]},{"l":[4]}]`)
	tabletest.Put(t, b, "good", tables.PutAppend, 1)
	tabletest.Put(t, s.Bucket("other"), "good", tables.PutAppend, 1)
	setRequired(true)
	for range 2 {
		if _, err := s.Fold(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "l.element") {
			t.Fatalf("Fold error = %v, want an error that names the table and the field", err)
		}
	}
	const rows = " | [1] | [2,null,3] | [4]"
	if got := tabletest.TableText(t, b, "a", nil); !strings.HasSuffix(got, rows) {
		t.Errorf("the rows are %s, want %s", got, rows)
	}
	if n := s.Backlog().Rows; n != 2 {
		t.Errorf("%d rows are in the tail, want 2: those of the other table are folded", n)
	}
	must.Get(s.Bucket("other").Snapshot(t.Context(), "s"))(t)
	must.Fail(t, must.Err(b.Snapshot(t.Context(), "s")), `"a"`, "a snapshot of the table's bucket")
	setRequired(false)
	must.Get(s.Fold(t.Context(), nil))(t)
	for _, s := range []*tables.Store{s, other} {
		if got := tabletest.TableText(t, s.Bucket(""), "a", nil); !strings.HasSuffix(got, rows) {
			t.Errorf("after the fold, the rows are %s, want %s", got, rows)
		}
	}
	put(`[{"l":[null]}]`)
	setRequired(true)
	must.Do(t, s.Close()) // although the tail cannot be folded
}

// TestMissing checks the error of each operation on a table that does not exist.
func TestMissing(t *testing.T) {
	ctx := t.Context()
	s := tablestest.Open(t, nil)
	b := s.Bucket("b")
	putJSON(t, b, "trades", `[{"n":1}]`, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64})
	missing := b.Table("tradse")
	for name, operation := range map[string]func() error{
		"describe":     func() error { _, err := missing.Info(ctx); return err },
		"schema":       func() error { _, err := missing.Schema(ctx); return err },
		"read":         func() error { _, err := missing.Scan(ctx, nil); return err },
		"version":      func() error { _, err := missing.At(ctx, tables.AtVersion(1)); return err },
		"moment":       func() error { _, err := missing.At(ctx, tables.AtTime(time.Now().Add(-time.Hour))); return err },
		"delete":       func() error { return missing.Delete(ctx) },
		"rename":       func() error { return missing.Rename(ctx, b, "new") },
		"delete names": func() error { return b.Delete(ctx, "tradse") },
		"metadata":     func() error { return missing.ChangeMetadata(ctx, tables.MetadataChange{}) },
		"fold": func() error {
			return must.Err(s.Fold(ctx, &tables.MaintainOptions{Buckets: []string{"b"}, Tables: []string{"tradse"}}))
		},
	} {
		err := operation()
		if want := `tables: table "tradse" does not exist in bucket "b" (did you mean "trades"?)`; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if !errors.Is(err, tables.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v does not wrap ErrNotFound and fs.ErrNotExist", name, err)
		}
	}
	_, err := s.Bucket("c").Metadata(ctx)
	if want := `tables: bucket "c" does not exist`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestCopyStableErrors checks that copyStable returns the error of a failed copy, such as a full disk, even if the
// files also change, and that catalogFingerprint stops when its context ends.
func TestCopyStableErrors(t *testing.T) {
	changes := 0
	fingerprint := func(context.Context) (string, error) { changes++; return strconv.Itoa(changes), nil }
	errFull := errors.New("no space left on device")
	if _, err := tables.CopyStable(t.Context(), fingerprint, func() error { return errFull }); !errors.Is(err, errFull) {
		t.Errorf("copyStable of changing files, with failing copies: error = %v, want %v", err, errFull)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.Do(t, os.WriteFile(filepath.Join(dir, tables.CatalogFile), nil, 0o600))
	if _, err := tables.CatalogFingerprint(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("catalogFingerprint with a canceled context: error = %v, want context.Canceled", err)
	}
}

// networkFS is a network file system: flock may not exclude processes on other machines.
type networkFS struct{ vfs.OS }

func (networkFS) Network(string) string { return "NFS" }

// fullFS is a network file system without space for a claim.
type fullFS struct{ networkFS }

func (f fullFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if strings.HasSuffix(name, ".holder") && flag&os.O_CREATE != 0 {
		return nil, syscall.ENOSPC
	}
	return f.networkFS.OpenFile(name, flag, perm)
}

// TestClaimNeedsSpace checks that tables on a network file system do not open without a claim.
func TestClaimNeedsSpace(t *testing.T) {
	t.Parallel()
	_, err := tables.OpenHooked(t.Context(), t.TempDir(), nil, tables.Hooks{FS: fullFS{}})
	must.Fail(t, err, syscall.ENOSPC, "Open without space for the claim")
}

// TestClaimOfAnotherMachine checks that tables on a network file system open only if no process on another machine has
// the claim of their tail.
func TestClaimOfAnotherMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openHooked(t, dir, nil, tables.Hooks{FS: networkFS{}})
	must.Get(os.Stat(filepath.Join(dir, "tail.lock.holder")))(t)
	dir = t.TempDir()
	claim := filepath.Join(dir, "tail.lock.holder")
	must.Do(t, os.WriteFile(claim, []byte("process 7 on elsewhere (partd-tables, since 2026-01-02T03:04:05Z)\n1 boot\n"), 0o666))
	_, err := tables.OpenHooked(t.Context(), dir, nil, tables.Hooks{FS: networkFS{}})
	if !errors.Is(err, tables.ErrInUse) || !strings.Contains(err.Error(), "process 7 on elsewhere") || !strings.Contains(err.Error(), "remove "+claim) {
		t.Errorf("Open with a claim: %v, want ErrInUse with the process and the claim", err)
	}
	must.Do(t, os.Remove(claim))
	openHooked(t, dir, nil, tables.Hooks{FS: networkFS{}})
}

// TestReadOnlyCopiesNoClaim checks that a read-only open does not copy the claim of the writer. Otherwise, it would fail
// if the temporary directory is on a network file system, like the tables.
func TestReadOnlyCopiesNoClaim(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	openHooked(t, dir, nil, tables.Hooks{})
	const claim = "process 7 on elsewhere (partd-tables, since 2026-01-02T03:04:05Z)\n1 boot\n"
	must.Do(t, os.WriteFile(filepath.Join(dir, "tail", "LOCK.holder"), []byte(claim), 0o666))
	t.Setenv("TMPDIR", temp)
	openHooked(t, dir, &tables.Options{ReadOnly: true}, tables.Hooks{})
	if copies := must.Get(filepath.Glob(filepath.Join(temp, "*", "*", "tail", "*")))(t); len(copies) < 2 {
		t.Errorf("the copies of the tail are %v, want its files", copies)
	}
	for _, name := range must.Get(filepath.Glob(filepath.Join(temp, "*", "*", "tail", "*.holder")))(t) {
		if string(must.Get(os.ReadFile(name))(t)) == claim {
			t.Errorf("the claim was copied to %s", name)
		}
	}
}

// TestFingerprintWaits checks that a read-only open waits until another change of the catalog would change its
// modification time, also if the file system stores only seconds, or a file server's clock is ahead.
func TestFingerprintWaits(t *testing.T) {
	for name, c := range map[string]struct {
		mtime     time.Time
		min, soon time.Duration
	}{
		"fine":    {time.Now().Truncate(time.Second).Add(time.Nanosecond), 0, time.Second},
		"seconds": {time.Now().Truncate(time.Second).Add(-time.Second), time.Second - 50*time.Millisecond, time.Hour},
		"ahead":   {time.Now().Add(time.Hour).Truncate(time.Second).Add(time.Nanosecond), 20 * time.Millisecond, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), tables.CatalogFile)
			must.Do(t, os.WriteFile(path, nil, 0o600))
			must.Do(t, os.Chtimes(path, c.mtime, c.mtime))
			start := time.Now()
			_ = must.Get(tables.CatalogFingerprint(t.Context(), filepath.Dir(path)))(t)
			if d := time.Since(start); d < c.min || d > c.soon {
				t.Errorf("the fingerprint took %v, want %v to %v", d, c.min, c.soon)
			}
		})
	}
}
