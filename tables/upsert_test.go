package tables_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestUpsert(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
		tabletest.Fold(t, b.Store())
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 5, 100) // row 5 now occurs twice, once in the tail
	before := tabletest.FilesOf(t, b, "t")
	result, err := b.Table("t").Upsert(ctx, tabletest.Rows(5, 15, 200), &tables.UpsertOptions{Keys: []string{"n"}})
	if err != nil || result.Deleted != 3 || result.Written != 3 {
		t.Fatalf("Upsert = %+v, %v; want Deleted 3 and Written 3", result, err)
	}
	want := append(tabletest.Sequence(0, 30), 100, 200)
	tabletest.WantRows(t, b, "t", want...)
	if after := tabletest.FilesOf(t, b, "t"); !slices.Contains(after, before[2]) {
		t.Errorf("files before: %q, after: %q; the file without the keys should not have been rewritten", before, after)
	}
	if _, err := b.Table("t").Upsert(ctx, tabletest.Rows(1, 2, 1), &tables.UpsertOptions{Keys: []string{"n", "s"}}); err == nil || !strings.Contains(err.Error(), "rows 1 and 3") {
		t.Errorf("Upsert with the same key twice: error = %v, want an error for rows 1 and 3", err)
	}
	if _, err := b.Table("t").Upsert(ctx, tabletest.Rows(1), nil); err == nil {
		t.Error("Upsert without keys succeeded, want an error")
	}
	ruled := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, OnDuplicate: tables.KeepLast}}
	tabletest.PutRows(t, b, "ruled", ticksAt(ticks(arrow.Second, ""), 1, 1, 2), tables.PutAppend, ruled)
	for _, c := range []struct {
		name, table, key string
		rows             array.RecordReader
	}{
		{"a missing key column", "t", "x", tabletest.Rows(1)},
		{"a null key", "t", "n", tabletest.JSONRows(t, "n int64; s utf8", "{}")},
		{"keys other than those of the rule for duplicates", "ruled", "n", ticksAt(ticks(arrow.Second, ""), 1, 2)},
	} {
		_, err := b.Table(c.table).Upsert(ctx, c.rows, &tables.UpsertOptions{Keys: []string{c.key}})
		if !errors.As(err, new(*tables.SchemaError)) {
			t.Errorf("Upsert with %s: error = %v, want a SchemaError", c.name, err)
		}
	}
	tabletest.WantRows(t, b, "t", want...)
}

// TestUpsertManyKeys compares an upsert whose keys do not fit in memory with a model, for tables with and without an
// order. A concurrent deletion makes the upsert start again.
func TestUpsertManyKeys(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	text := func(n int64) string { return strings.Repeat("k", int(n%5)) + strconv.FormatInt(n, 10) }
	read := func(first, step, count, value int64) array.RecordReader {
		b := array.NewRecordBuilder(memory.DefaultAllocator, lineageFields)
		b2 := array.NewStringBuilder(memory.DefaultAllocator)
		for i := range count {
			n := (first + i*step) % (2 * rows)
			b.Field(0).(*array.Int64Builder).Append(n)
			b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(n))
			b.Field(2).(*array.Int32Builder).Append(int32(value))
			b.Field(3).(*array.Int32Builder).Append(0)
			b2.Append(text(n))
		}
		batch := b.NewRecordBatch()
		fields := append(lineageFields.Fields(), tabletest.Nullable("s", arrow.BinaryTypes.String))
		return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema(fields, nil), append(batch.Columns(), b2.NewArray()), count))
	}
	for name, settings := range map[string]tables.Settings{"unordered": {}, "ordered": {Time: "at"}, "keep last": {Time: "at", Keys: []string{"n"}, OnDuplicate: tables.KeepLast}} {
		t.Run(name, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20})
			b := s.Bucket("")
			model, o := map[int64]int32{}, &tables.PutOptions{Settings: &settings}
			for first := range int64(2) {
				tabletest.PutRows(t, b, "t", read(first, 2, rows/2, 1), tables.PutAppend, o)
				o = nil
				for i := range int64(rows / 2) {
					model[first+2*i] = 1
				}
			}
			isDeleted := false
			upserting := openHooked(t, s.Dir(), &tables.Options{NoTail: true, Memory: 1 << 20}, tables.Hooks{OnPrepared: func() {
				if !isDeleted {
					isDeleted = true
					tabletest.DeleteRows(t, b, "t", "n = 7")
				}
			}})
			delete(model, 7)
			keys := []string{"s", "n"}
			if name == "keep last" {
				keys = nil
			}
			replaced := int64(0)
			upserted := read(5, 7, rows, 2) // 7 and 2·rows have no common divisor, so the keys differ
			for i := range int64(rows) {
				n := (5 + 7*i) % (2 * rows)
				if _, exists := model[n]; exists {
					replaced++
				}
				model[n] = 2
			}
			result, err := upserting.Bucket("").Table("t").Upsert(t.Context(), upserted, &tables.UpsertOptions{Keys: keys})
			if err != nil || !isDeleted || result.Deleted != replaced || result.Written != rows {
				t.Fatalf("Upsert = %+v, %v; want Deleted %d and Written %d", result, err, replaced, rows)
			}
			got := map[int64]int32{}
			r := must.Get(b.Table("t").Scan(t.Context(), nil))(t)
			defer r.Release()
			count := int64(0)
			for r.Next() {
				count += r.RecordBatch().NumRows()
				for i := range int(r.RecordBatch().NumRows()) {
					got[r.RecordBatch().Column(0).(*array.Int64).Value(i)] = r.RecordBatch().Column(2).(*array.Int32).Value(i)
				}
			}
			if r.Err() != nil || count != int64(len(model)) || !maps.Equal(got, model) {
				t.Errorf("the table has %d rows with %d keys (error %v), want the model's %d", count, len(got), r.Err(), len(model))
			}
			repeated := read(0, 1, rows+1, 3)
			repeated.Next()
			twice := must.Get(array.NewRecordReader(repeated.Schema(), []arrow.RecordBatch{repeated.RecordBatch(), repeated.RecordBatch().NewSlice(700, 701)}))(t)
			if _, err := b.Table("t").Upsert(t.Context(), twice, &tables.UpsertOptions{Keys: keys}); err == nil || !strings.Contains(err.Error(), "rows 701 and 20002 have the same key: remove") {
				t.Errorf("an upsert with a repeated key returned the error %v, want one with the rows' numbers, and without the key, because the keys are in a temporary file", err)
			}
		})
	}
}

// TestUpsertFiles checks that the number of files with replaced rows is the same whether the keys fit in memory or not.
// A second file, whose time overlaps, is rewritten with the first in only one case, and contains no replaced row.
func TestUpsertFiles(t *testing.T) {
	for _, memory := range []int64{1 << 20, 64 << 20} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: memory}).Bucket("")
		rows := make([]tick, 20_000)
		for i := range rows {
			rows[i] = tick{int64(i), "a", int64(i), 0}
		}
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
		tabletest.PutRows(t, b, "t", ticksOf(rows, len(rows)), tables.PutAppend, o)
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{5, "b", 5, 0}}, 1), tables.PutAppend, nil)
		r, err := b.Table("t").Upsert(t.Context(), ticksOf(rows, len(rows)), &tables.UpsertOptions{Keys: []string{"ts", "k"}})
		if err != nil || r.Deleted != 20_000 || r.Files != 1 {
			t.Errorf("upsert with %d MiB: got %+v, %v, want 20,000 rows deleted in 1 file", memory>>20, r, err)
		}
	}
}

// TestUpsertNullKeys checks that nulls are equal keys if UpsertOptions.NullKeys is set, for each type of key, with the
// table's rows in files or in the tail.
func TestUpsertNullKeys(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"int8": "7", "int32": "7", "int64": "7", "uint64": "7", "bool": "true", "utf8": `"a"`, "large_utf8": `""`, "binary": `"YQ=="`, "date32": `"2026-01-01"`,
		"timestamp[ns]": `"2026-01-01"`, "timestamp[us, tz=UTC]": `"2026-01-01 00:00:00Z"`, "time64[us]": `"10:00:00"`, "decimal128(9, 2)": `"1.50"`, "duration[us]": "7",
	}
	for keyType, value := range values {
		for _, o := range []tables.Options{{FoldAge: -1}, {NoTail: true}} {
			b := tabletest.Open(t, t.TempDir(), &o).Bucket("")
			columns := "k " + keyType + "; l int64; v int64"
			rows := func(v int, keys ...string) string {
				var texts []string
				for _, k := range keys {
					k, l, _ := strings.Cut(k, " ")
					texts = append(texts, fmt.Sprintf(`{"k":%s,"l":%s,"v":%d}`, strings.ReplaceAll(k, "x", value), l, v))
				}
				return strings.Join(texts, ",")
			}
			put := func(text string) {
				t.Helper()
				if _, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, text), tables.PutAppend, nil); err != nil {
					t.Fatalf("%s: %v", keyType, err)
				}
			}
			put(rows(1, "x 1", "x null"))
			put(rows(1, "null 1", "null null", "null 2"))
			keys := []string{"k", "l"}
			if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1")), &tables.UpsertOptions{Keys: keys}); !errors.As(err, new(*tables.SchemaError)) {
				t.Errorf("%s: a null key without NullKeys: error %v, want a SchemaError", keyType, err)
			}
			result, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1", "x null", "null null", "x 3", "null 3")), &tables.UpsertOptions{Keys: keys, NullKeys: true})
			if err != nil || result.Deleted != 3 || result.Written != 5 {
				t.Errorf("%s: Upsert = %+v, %v; want Deleted 3 and Written 5", keyType, result, err)
			}
			if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1", "null 1")), &tables.UpsertOptions{Keys: keys, NullKeys: true}); err == nil || !strings.Contains(err.Error(), "rows 1 and 2 have the same key") {
				t.Errorf("%s: an upsert with the same null key twice: error %v", keyType, err)
			}
			r := must.Get(b.Table("t").Scan(t.Context(), &tables.ScanOptions{Columns: []string{"k", "l", "v"}}))(t)
			var got []string
			for r.Next() {
				c := r.RecordBatch()
				for i := range int(c.NumRows()) {
					got = append(got, strings.Join([]string{map[bool]string{true: "null", false: "x"}[c.Column(0).IsNull(i)], cellText(c.Column(1), i), cellText(c.Column(2), i)}, " "))
				}
			}
			must.Do(t, r.Err())
			r.Release()
			slices.Sort(got)
			want := []string{"null 1 2", "null 2 1", "null 3 2", "null null 2", "x 1 1", "x 3 2", "x null 2"}
			if !slices.Equal(got, want) {
				t.Errorf("%s: rows %q, want %q", keyType, got, want)
			}
		}
	}
}

// TestKeySetCollisions checks that find distinguishes keys with the same hash.
func TestKeySetCollisions(t *testing.T) {
	k := tables.NewKeySet(nil, 1<<20, false)
	for i, key := range []string{"a", "b", "", "ab"} {
		if row := k.Find(7, []byte(key)); row != 0 {
			t.Errorf("key %q is in row %d before it is added, want none", key, row)
		}
		if !k.Insert(7, append([]byte{byte(i + 1), byte(len(key))}, key...)) {
			t.Fatal("insert returned false, but there is enough memory")
		}
		if row := k.Find(7, []byte(key)); row != int64(i+1) {
			t.Errorf("key %q is in row %d, want row %d", key, row, i+1)
		}
	}
}

// wantUpsert upserts rows by key k, and expects an error that contains want, or success if want is empty.
func wantUpsert(t *testing.T, b *tables.Bucket, columns, rows, want string) {
	t.Helper()
	var missing []string
	_, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows), &tables.UpsertOptions{Keys: []string{"k"}, MissingColumns: &missing})
	if want == "" && err != nil || want != "" && (!errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), want)) {
		t.Fatalf("Upsert error = %v, want %q", err, want)
	}
}

// TestUpsertWidens checks that an upsert widens or adds columns in the same commit, or fails and changes nothing.
func TestUpsertWidens(t *testing.T) {
	const k = "k int64; v "
	for _, c := range []struct{ columns, rows, put, row, want string }{
		{k + "int16", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int32", `{"k":2,"v":70000}`, k + "int32 | 1,1 | 2,70000"},
		{k + "int32", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64", `{"k":2,"v":5000000000}`, k + "int64 | 1,1 | 2,5000000000"},
		{k + "float32", `{"k":1,"v":0.5},{"k":2,"v":2}`, k + "float64", `{"k":2,"v":1e300}`, k + "float64 | 1,0.5 | 2,1e+300"},
		{k + "decimal(9, 2)", `{"k":1,"v":"1.25"},{"k":2,"v":"2.5"}`, k + "decimal(18, 2)", `{"k":2,"v":"9999999999.5"}`, k + "decimal(18, 2) | 1,1.25 | 2,9999999999.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64", `{"k":2,"v":2.5}`, k + "float64 | 1,1 | 2,2.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64", `{"k":3,"v":2.5}`, k + "float64 | 1,1 | 2,2 | 3,2.5"},
		{k + "int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64; w utf8", `{"k":2,"v":3,"w":"x"}`, k + "int64; w utf8 | 1,1,(null) | 2,3,x"},
		{"k int32; v int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "int64", `{"k":2,"v":3},{"k":5000000000,"v":4}`, k + "int64 | 1,1 | 2,3 | 5000000000,4"},
		{"k int32; v int64", `{"k":1,"v":1},{"k":2,"v":2}`, k + "float64; w bool", `{"k":2,"v":0.5,"w":true}`, k + "float64; w bool | 1,1,(null) | 2,0.5,true"},

		{k + "int64", `{"k":1,"v":1}`, k + "utf8", `{"k":1,"v":"x"}`, `column "v": it has type utf8, and the table has int64; the table's evolution is compatible`},
		{k + "int64", `{"k":1,"v":1}`, k + "bool", `{"k":1,"v":true}`, `column "v": it has type bool, and the table has int64`},
		{k + "int64", `{"k":1,"v":9007199254740993}`, k + "float64", `{"k":1,"v":0.5}`, `column "v"`},
		{k + "int64", `{"k":1,"v":1}`, "k float64; v int64", `{"k":1,"v":2}`, `column "k": a column of type float64 cannot be a key for Upsert`},
	} {
		for _, mode := range []string{"tail", "folded", "commits"} {
			t.Run(c.columns+"/"+c.put+"/"+mode, func(t *testing.T) {
				commits := 0
				o, hooks := &tables.Options{NoTail: mode == "commits", FoldAge: -1}, tables.Hooks{OnPrepared: func() { commits++ }}
				s := openHooked(t, t.TempDir(), o, hooks)
				b := s.Bucket("b")
				tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, c.rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: tables.Compatible}})
				if mode == "folded" {
					tabletest.Fold(t, s)
				}
				before := tabletest.TableText(t, b, "t", nil)
				commits = 0
				if strings.HasPrefix(c.want, "column") {
					wantUpsert(t, b, c.put, c.row, c.want)
					tabletest.WantText(t, b, "t", before)
					return
				}
				wantUpsert(t, b, c.put, c.row, "")
				wantSorted(t, b, c.want)
				if mode == "folded" || mode == "commits" {
					tabletest.WantText(t, b, "t", before, tables.AtVersion(1))
				}
				if commits != 1 {
					t.Errorf("the upsert made %d commits, want 1", commits)
				}
				tabletest.Compact(t, s)
				wantSorted(t, b, c.want)
			})
		}
	}
}

// TestUpsertUnderEvolutions checks that an upsert widens a column only if the table's evolution setting allows it.
func TestUpsertUnderEvolutions(t *testing.T) {
	for e, want := range map[tables.Evolution]string{"": `column "v": it has type int64`, tables.Strict: `column "v": it has type int64`, tables.AddOnly: `column "v": it has type int64`, tables.Compatible: "", tables.Flexible: ""} {
		b := tabletest.BucketWithoutTail(t)
		must.Get(b.Table("t").Put(t.Context(), tabletest.JSONRows(t, "k int64; v int32", `{"k":1,"v":1}`), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Evolution: e}}))(t)
		wantUpsert(t, b, "k int64; v int64", `{"k":1,"v":5000000000}`, want)
	}
}
