package flightclient_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
)

// TestZeroValues checks that the methods of a zero client return errors, and that a nil lock can be unlocked.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Client": new(flightclient.Client), "Client(nil)": (*flightclient.Client)(nil),
	}, "Close")
	if err := (*flightclient.Lock)(nil).Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReadReaders checks that a put of a nil reader, or of a reader that has already been read, changes nothing.
func TestReadReaders(t *testing.T) {
	c, store, _ := serve(t)
	r := array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) { yield(batch(2), nil) })
	put := func(r array.RecordReader, m tables.PutMode) error {
		_, err := c.Put(t.Context(), "b", "t", r, m, nil)
		return err
	}
	if err := put(r, tables.PutAppend); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := put(r, tables.PutReplace); err == nil || !strings.Contains(err.Error(), "already been read to the end") {
			t.Errorf("Put of a reader that has been read = %v, want an error that says so", err)
		}
	}
	if err := put(nil, tables.PutReplace); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf("Put of a nil reader = %v, want an error that says so", err)
	}
	if _, err := c.DeleteRows(t.Context(), "b", "t", nil); err == nil {
		t.Error("DeleteRows without a condition succeeded, want an error")
	}
	table := store.Bucket("b").Table("t")
	if info, err := table.Info(t.Context()); err != nil || info.Rows != 2 {
		t.Errorf("the table has %d rows (error %v), want 2", info.Rows, err)
	}
}
