package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReadersDuringFolds reads while rows are appended and folded: each read must return every
// row acknowledged before the read exactly once.
func TestReadersDuringFolds(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: 10 * time.Millisecond})
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var lastRow atomic.Int64 // the last acknowledged row
	var writers, readers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	writers.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := b.Table("a").Put(ctx, tabletest.Rows(n), tables.PutAppend, nil); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			lastRow.Store(n)
			time.Sleep(200 * time.Microsecond)
		}
	})
	writers.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			if _, err := s.Compact(ctx, nil); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 2}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			for reads.Add(1) <= int64(tabletest.Rounds(t, "PARTD_READS", 100)) && !t.Failed() {
				acknowledged := lastRow.Load()
				ns, _, err := tabletest.Read(ctx, b, "a")
				if err != nil {
					t.Error(err)
					return
				}
				if int64(len(ns)) <= acknowledged || !slices.Equal(ns, tabletest.Sequence(0, int64(len(ns)))) {
					t.Errorf("read %d rows: %v; want each row from 0 to %d or later exactly once", len(ns), ns, acknowledged)
				}
			}
		})
	}
	readers.Wait()
}

// TestManyWriters checks that no row is lost if many goroutines append to the same few tables, which do not exist at first.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	for _, noTail := range []bool{false, true} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldBytes: 3000})
		var g sync.WaitGroup
		const writers, putsPerWriter = 20, 5
		for w := range writers {
			g.Go(func() {
				for i := range putsPerWriter {
					n := int64(w*putsPerWriter + i)
					if _, err := s.Bucket("x").Table(fmt.Sprint(n%3)).Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		g.Wait()
		var all []int64
		for i := range 3 {
			ns, _, err := tabletest.Read(t.Context(), s.Bucket("x"), fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, ns...)
		}
		slices.Sort(all)
		if !slices.Equal(all, tabletest.Sequence(0, writers*putsPerWriter)) {
			t.Fatalf("NoTail %v: read rows %v, want 0 to %d", noTail, all, writers*putsPerWriter-1)
		}
	}
}

// TestForeignCommits checks that no row is lost if Iceberg's library appends through a second catalog while the Store
// appends and folds rows.
func TestForeignCommits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	if _, err := s.Catalog().Load(t.Context(), tables.DefaultNamespace, "a"); err != nil {
		t.Fatal(err)
	}
	foreign, err := icecat.Open(t.Context(), dir, icecat.Options{FS: vfs.OS{}, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close() //nolint:errcheck // the test is over
	const putsPerWriter = 10
	var g sync.WaitGroup
	g.Go(func() {
		for n := range int64(putsPerWriter) {
			if err := foreignAppend(t.Context(), foreign, tabletest.Rows(100+n)); err != nil {
				t.Error(err)
			}
		}
	})
	g.Go(func() {
		for n := range int64(putsPerWriter) {
			if _, err := b.Table("a").Put(t.Context(), tabletest.Rows(1+n), tables.PutAppend, nil); err != nil {
				t.Error(err)
			}
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Error(err)
			}
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
	cur, err := foreign.Load(t.Context(), tables.DefaultNamespace, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Commit(t.Context(), nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: "a", Base: cur, IOs: []*icecat.FileIO{foreign.NewIO()}}); err != nil {
		t.Fatal(err)
	}
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

// TestTwoTails checks that two Stores with tails of their own can share a directory.
func TestTwoTails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*tables.Store
	for range 2 {
		stores = append(stores, tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1}))
	}
	tabletest.Put(t, stores[0].Bucket(""), "a", tables.PutAppend, 0)
	for n := int64(1); n < 20; n++ {
		tabletest.Put(t, stores[n%2].Bucket(""), "a", tables.PutAppend, n)
		if n%3 == 0 {
			if _, err := stores[n/3%2].Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range stores {
		tabletest.Fold(t, s)
	}
	for _, s := range stores {
		tabletest.WantRows(t, s.Bucket(""), "a", tabletest.Sequence(0, 20)...)
	}
}

// libraryCatalog adapts a catalog to Iceberg's library, for transactions like those of other programs.
type libraryCatalog struct{ *icecat.Catalog }

func (l libraryCatalog) LoadTable(ctx context.Context, id table.Identifier) (*table.Table, error) {
	t, err := l.Load(ctx, id[0], id[1])
	if err != nil {
		return nil, err
	}
	return table.New(id, t.Metadata(), t.MetadataLocation(), func(context.Context) (iceio.IO, error) { return l.NewIO(), nil }, l), nil
}

func (l libraryCatalog) CommitTable(ctx context.Context, id table.Identifier, reqs []table.Requirement, ups []table.Update) (table.Metadata, string, error) {
	base, err := l.LoadTable(ctx, id)
	if err != nil {
		return nil, "", err
	}
	for _, r := range reqs {
		if err := r.Validate(base.Metadata()); err != nil {
			return nil, "", fmt.Errorf("%w: %w", icecat.ErrConflict, err)
		}
	}
	meta, err := table.UpdateTableMetadata(base.Metadata(), ups, base.MetadataLocation())
	if err != nil {
		return nil, "", err
	}
	ch := &icecat.Change{Namespace: id[0], Name: id[1], Base: base, New: meta, IOs: []*icecat.FileIO{l.NewIO()}}
	if err := l.Commit(ctx, nil, ch); err != nil {
		return nil, "", err
	}
	return meta, ch.Result.MetadataLocation(), nil
}
