package tables_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// nullsOf returns two rows with nulls in all fields.
func nullsOf(fields ...arrow.Field) array.RecordReader {
	schema := arrow.NewSchema(fields, nil)
	columns := make([]arrow.Array, len(fields))
	for i, f := range fields {
		columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 2)
	}
	return array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
		yield(array.NewRecordBatch(schema, columns, 2), nil)
	})
}

// TestAppendMissingColumns checks that an append reports the table columns that its rows lack, and that an append
// with AllColumns fails instead. A column that contains only nulls is not missing.
func TestAppendMissingColumns(t *testing.T) {
	n := arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	s := arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}
	for name, fold := range map[string]int64{"in the tail": 0, "in files": 1} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: fold}).Bucket("b")
		var missing []string
		put := func(o tables.PutOptions, fields ...arrow.Field) error {
			o.MissingColumns = &missing
			_, err := b.Table("t").Put(t.Context(), nullsOf(fields...), tables.PutAppend, &o)
			return err
		}
		if err := put(tables.PutOptions{}, n, s); err != nil || missing != nil {
			t.Fatalf("put of all columns, %s: missing columns %q, error %v; want no missing columns", name, missing, err)
		}
		if err := put(tables.PutOptions{}, n); err != nil || !reflect.DeepEqual(missing, []string{"s"}) {
			t.Errorf("put without column s, %s: missing columns %q, error %v; want s to be missing", name, missing, err)
		}
		if err := put(tables.PutOptions{AllColumns: true}, n); err == nil || !strings.Contains(err.Error(), `column "s": the rows lack this column`) {
			t.Errorf("put without column s with AllColumns, %s: error = %v, want a missing column", name, err)
		}
		if err := put(tables.PutOptions{AllColumns: true}, n, arrow.Field{Name: "s", Type: arrow.Null, Nullable: true}); err != nil || missing != nil {
			t.Errorf("put with nulls in column s, %s: missing columns %q, error %v; want no missing columns", name, missing, err)
		}
	}
}

// TestAppendDifferentValueKind checks that values with the column's type but a different meaning are rejected.
func TestAppendDifferentValueKind(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	put := func(name, values string) error {
		m := arrow.MetadataFrom(map[string]string{schema.ValuesKey: values})
		if values == "" {
			m = arrow.Metadata{}
		}
		_, err := b.Table(name).Put(t.Context(), nullsOf(arrow.Field{Name: "v", Type: arrow.PrimitiveTypes.Int64, Nullable: true, Metadata: m}), tables.PutAppend, nil)
		return err
	}
	for _, kinds := range [][2]string{{"period[D]", "period[M]"}, {"period[D]", ""}, {"", "period[D]"}} {
		name := "t" + kinds[0] + "," + kinds[1]
		for range 2 {
			if err := put(name, kinds[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(name, kinds[1]); err == nil || !strings.Contains(err.Error(), "values are of kind") {
			t.Errorf("put of values of kind %q into a column of kind %q: error = %v, want an error about the kinds", kinds[1], kinds[0], err)
		}
	}
}

// TestAppendDuringSettingsChanges checks that an append finishes, however often the table changes
// while its rows are prepared.
func TestAppendDuringSettingsChanges(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	n := arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	tabletest.PutRows(t, b, "t", nullsOf(n), tables.PutAppend, nil)
	e, release, err := b.Table("t").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	src, err := datafile.Gather(nullsOf(n), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Release()
	attempts, lastErr := 0, make(chan error, 1)
	_, _, err = e.Append(t.Context(), src, "", func(*schema.Caster) error {
		if attempts++; attempts > 5 {
			return errors.New("the append was attempted more than 5 times")
		}
		changeErr := make(chan error, 1)
		go func() {
			err := b.Table("t").SetSettings(t.Context(), tables.Settings{Evolution: []tables.Evolution{"", tables.Flexible}[attempts%2]})
			_, tailErr := e.HasTail(t.Context())
			changeErr <- errors.Join(err, tailErr)
		}()
		select {
		case err := <-changeErr:
			return err
		case <-time.After(2 * time.Second): // the change waits until the append ends
			go func() { lastErr <- <-changeErr }()
			return nil
		}
	})
	if err != nil {
		t.Fatalf("Append in attempt %d: %v", attempts, err)
	}
	if attempts == 3 { // with fewer attempts, a change was slow and may still run
		err = <-lastErr
	}
	if err != nil || attempts > 3 {
		t.Errorf("the append took %d attempts, want at most 3; error: %v", attempts, err)
	}
	wantEqual(t, "the rows", scanJSON(t, b, "t", nil), `{"n":null},{"n":null},{"n":null},{"n":null}`)
}
