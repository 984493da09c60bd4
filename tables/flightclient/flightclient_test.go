package flightclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func serve(t *testing.T) (c *flightclient.Client, store *tables.Store, stop func()) {
	t.Helper()
	store = must.Get(tables.Open(t.Context(), t.TempDir(), nil))(t)
	server, err := flightd.New(store, &flightd.Options{Grace: time.Millisecond})
	must.Do(t, err)
	address, stop := nettest.Serve(t, server.Serve, store)
	addresses.Store(t.Name(), address)
	if c, err = flightclient.Dial("grpc://"+address, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		must.Do(t, c.Close())
	})
	return c, store, stop
}

var schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

func batch(n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range n {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
	}
	return b.NewRecordBatch()
}

// batches returns a reader of count batches. If err is not nil, the reader then fails with err.
func batches(count int, err error) array.RecordReader {
	return array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
		for range count {
			if !yield(batch(100_000), nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	})
}

func TestErrors(t *testing.T) {
	c, _, stop := serve(t)
	ctx := t.Context()
	must.Get(c.Put(ctx, "b", "t", batches(1, nil), tables.PutError, nil))(t)
	_, err := c.Put(ctx, "b", "t", batches(1, nil), tables.PutError, nil)
	if !errors.Is(err, tables.ErrExists) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("Put of an existing table = %v, want ErrExists", err)
	}
	for name, call := range map[string]func() error{
		"describe": func() error { _, _, err := c.Describe(ctx, "b", "x", nil); return err },
		"scan":     func() error { _, err := c.Scan(ctx, "b", "x", nil, nil); return err },
		"changes":  func() error { _, err := c.Changes(ctx, "b", "x", nil, nil, nil); return err },
		"delete":   func() error { return c.Delete(ctx, "b", "t", "x") },
	} {
		if err := call(); !errors.Is(err, tables.ErrNotFound) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("%s of a missing table = %v, want ErrNotFound", name, err)
		}
	}
	if _, err := c.Query(ctx, "DELETE FROM t", nil); !errors.As(err, new(*tables.ArgumentError)) {
		t.Errorf("Query of a statement that writes = %v, want an ArgumentError", err)
	}
	must.Fail(t, must.Err(c.Query(ctx, "SELECT 1", nil)), errors.ErrUnsupported, "Query on a server without an SQL engine")
	stop()
	time.Sleep(50 * time.Millisecond)
	if err := c.Delete(ctx, "b", "t"); err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Delete on a stopped server: error = %v, want an error other than ErrUnknownOutcome", err)
	}
}

// TestVersions checks that a version that Put returns contains the rows, that a time selects the rows of that time, and
// that the error for another time names times that can be selected.
func TestVersions(t *testing.T) {
	c, _, _ := serve(t)
	ctx := t.Context()
	moment := func() time.Time {
		time.Sleep(3 * time.Millisecond)
		defer time.Sleep(3 * time.Millisecond)
		return time.Now()
	}
	rows := func(at tables.At) (n int64, err error) {
		info, _, err := c.Describe(ctx, "b", "t", at)
		if err != nil {
			return 0, err
		}
		r, err := c.Scan(ctx, "b", "t", at, nil)
		if err != nil {
			return 0, err
		}
		if n, err = tabletest.CountRows(r); info.Rows != n {
			t.Errorf("Describe says %d rows, and Scan read %d", info.Rows, n)
		}
		return n, err
	}
	var moments []time.Time
	for n := range int64(4) {
		one := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{batch(1)}))(t)
		v := must.Get(c.Put(ctx, "b", "t", one, tables.PutAppend, nil))(t)
		moments = append(moments, moment())
		if n%2 == 1 {
			continue
		}
		if got, err := rows(tables.AtVersion(v)); got != n+1 || err != nil {
			t.Errorf("version %d has %d rows, error %v; want %d rows", v, got, err, n+1)
		}
	}
	for n, when := range moments {
		got, err := rows(tables.AtTime(when))
		if n == 1 { // version 2 has the rows of two puts
			if !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "nearest exact moments") {
				t.Errorf("the moment between two puts of one version: error = %v, want ErrNotFound with the nearest moments", err)
			}
		} else if got != int64(n)+1 || err != nil {
			t.Errorf("moment %d has %d rows, error %v; want %d rows", n, got, err, n+1)
		}
	}
}

// TestInterruptedPut checks that a put that fails or is canceled while it sends rows stores nothing.
func TestInterruptedPut(t *testing.T) {
	c, store, _ := serve(t)
	errBroken := errors.New("the disk is broken")
	if _, err := c.Put(t.Context(), "", "t", batches(20, errBroken), tables.PutAppend, nil); !errors.Is(err, errBroken) {
		t.Errorf("Put of a failing reader = %v, want %v", err, errBroken)
	}
	errLost := fmt.Errorf("the connection is lost: %w", io.EOF) // an error from the rows that wraps io.EOF must not end the call successfully
	deadlineCtx, cancelDeadline := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancelDeadline()
	if _, err := c.Put(deadlineCtx, "", "t", batches(20, errLost), tables.PutAppend, nil); !errors.Is(err, errLost) {
		t.Errorf("Put of a failing reader = %v, want %v", err, errLost)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
		for yield(batch(100_000), nil) {
			cancel()
		}
	})
	must.Fail(t, must.Err(c.Put(ctx, "", "t", r, tables.PutAppend, nil)), context.Canceled, "canceled Put")
	if _, err := store.Bucket("").Table("t").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after interrupted puts, Table = %v, want ErrNotFound", err)
	}
	for name := range store.Buckets(t.Context()) {
		t.Errorf("interrupted puts created bucket %q", name)
	}
}

func TestChanges(t *testing.T) {
	c, _, _ := serve(t)
	ctx := t.Context()
	for _, mode := range []tables.PutMode{tables.PutError, tables.PutReplace} {
		must.Get(c.Put(ctx, "b", "t", batches(int(mode)+1, nil), mode, nil))(t)
	}
	count := func(at, since tables.At, o *tables.ChangesOptions) (rows int64, changes *tables.Changes) {
		t.Helper()
		r := must.Get(c.Changes(ctx, "b", "t", at, since, o))(t)
		rows, err := tabletest.CountRows(r)
		if err != nil || !r.Schema().HasField("_change") {
			t.Fatalf("columns %v, error %v; want the column _change", r.Schema(), err)
		}
		return rows, r
	}
	all, first := count(tables.AtVersion(1), nil, nil)
	changed, last := count(nil, tables.AtVersion(first.Version), &tables.ChangesOptions{Keys: []string{schema.Field(0).Name}, UUID: first.UUID})
	if all != 100_000 || changed != 200_000 || first.Version != 1 || last.Version != 2 || first.UUID == "" {
		t.Errorf("got %d rows up to version %d, and %d changes up to version %d; want 100,000 up to 1, and 200,000 up to 2", all, first.Version, changed, last.Version)
	}
	for _, empty := range []tables.At{tables.AtTime(time.Time{}), tables.AtSnapshot("")} {
		if rows, _ := count(tables.AtVersion(1), empty, nil); rows != all {
			t.Errorf("changes since an empty selector: got %d rows, want all %d", rows, all)
		}
	}
	if _, err := c.Changes(ctx, "b", "t", nil, tables.AtVersion(99), nil); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("changes since a missing version: error = %v, want ErrNotFound", err)
	}
}

// TestScan checks that Scan applies its options, and that a reader can be released early.
func TestScan(t *testing.T) {
	c, _, _ := serve(t)
	ctx := t.Context()
	must.Get(c.Put(ctx, "", "t", batches(10, nil), tables.PutError, &tables.PutOptions{Metadata: tables.Metadata{"a": "b"}}))(t)
	r, err := c.Scan(ctx, "", "t", nil, &tables.ScanOptions{Limit: 350_000, Columns: []string{"n"}})
	must.Do(t, err)
	if rows, err := tabletest.CountRows(r); err != nil || rows != 350_000 {
		t.Errorf("Scan with a limit returned %d rows, error %v; want 350,000", rows, err)
	}
	if r, err = c.Scan(ctx, "", "t", nil, nil); err != nil || !r.Next() {
		t.Fatal(err)
	}
	r.Release()
	info, s, err := c.Describe(ctx, "", "t", nil)
	if err != nil || info.Rows != 1_000_000 || info.Metadata["a"] != "b" || !s.HasField("n") {
		t.Errorf("Describe = %+v, schema %v, error %v; want 1,000,000 rows, metadata a = b and column n", info, s, err)
	}
}

func TestInvalidServerURLs(t *testing.T) {
	for server, text := range map[string]string{
		"": "grpc://", "localhost": "grpc://", "http://x": "scheme", "grpc://x/y": "grpc://", "grpc://u@x": "grpc://", "grpc://example.org": "TLS",
	} {
		if _, err := flightclient.Dial(server, &flightclient.Options{Token: "secret"}); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Dial(%q) = %v, want an error with %q and without the token", server, err, text)
		}
	}
}

// TestDamaged checks that scanning a damaged table returns ErrDamaged, and that other tables can still be scanned.
func TestDamaged(t *testing.T) {
	c, store, _ := serve(t)
	ctx := t.Context()
	must.Get(c.Put(ctx, "b", "bad", batches(1, nil), tables.PutReplace, nil))(t)
	lists, err := filepath.Glob(filepath.Join(store.Dir(), "data", "*", "metadata", "snap-*.avro"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("found the manifest lists %q (error %v), want one", lists, err)
	}
	must.Get(c.Put(ctx, "b", "good", batches(1, nil), tables.PutReplace, nil))(t)
	must.Do(t, os.WriteFile(lists[0], []byte("no list"), 0o666))
	if r, err := c.Scan(ctx, "b", "bad", nil, nil); err == nil {
		for r.Next() {
			t.Error("a damaged table was read")
		}
		if err = r.Err(); !errors.Is(err, tables.ErrDamaged) {
			t.Errorf("reading a damaged table: got %v, want ErrDamaged", err)
		}
		r.Release()
	} else if !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(lists[0])) || strings.Contains(err.Error(), store.Dir()) {
		t.Errorf("Scan of a damaged table = %v, want ErrDamaged with the file's name, but not the store's directory", err)
	}
	r := must.Get(c.Scan(ctx, "b", "good", nil, nil))(t)
	defer r.Release()
	for r.Next() {
	}
	if r.Err() != nil {
		t.Errorf("reading the other table failed: %v", r.Err())
	}
}

// TestZeroValues checks that the methods of a zero client return errors, and that a nil lock can be unlocked.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Client": new(flightclient.Client), "Client(nil)": (*flightclient.Client)(nil),
	}, "Close")
	must.Do(t, (*flightclient.Lock)(nil).Unlock(t.Context()))
}

// TestReadReaders checks that a put of a nil reader, or of a reader that has already been read, changes nothing.
func TestReadReaders(t *testing.T) {
	c, store, _ := serve(t)
	r := array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) { yield(batch(2), nil) })
	put := func(r array.RecordReader, m tables.PutMode) error {
		_, err := c.Put(t.Context(), "b", "t", r, m, nil)
		return err
	}
	must.Do(t, put(r, tables.PutAppend))
	for range 2 {
		must.Fail(t, put(r, tables.PutReplace), "already been read to the end", "Put of a reader that has been read")
	}
	must.Fail(t, put(nil, tables.PutReplace), "is nil", "Put of a nil reader")
	if _, err := c.DeleteRows(t.Context(), "b", "t", nil); err == nil {
		t.Error("DeleteRows without a condition succeeded, want an error")
	}
	tabletest.WantCount(t, store.Bucket("b").Table("t"), 2)
}

// TestOptions checks that Upsert sends NullKeys, and that Put rejects the options that it cannot send. Without the
// error, a PutReplace with Over would also replace rows that were put after that version.
func TestOptions(t *testing.T) {
	c, store, _ := serve(t)
	ctx := t.Context()
	version := must.Get(c.Put(ctx, "", "t", batches(1, nil), tables.PutError, nil))(t)
	for _, o := range []*tables.PutOptions{{Over: &version}, {MustExist: true}} {
		if _, err := c.Put(ctx, "", "t", batches(1, nil), tables.PutReplace, o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Put with %+v: error %v, want ErrUnsupported", o, err)
		}
	}
	for range 2 {
		rows := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		rows.Field(0).AppendNull()
		r := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{rows.NewRecordBatch()}))(t)
		if _, err := c.Upsert(ctx, "", "t", r, &tables.UpsertOptions{Keys: []string{"n"}, NullKeys: true}); err != nil {
			t.Fatal(err)
		}
	}
	tabletest.WantCount(t, store.Bucket("").Table("t"), 100_001)
}
