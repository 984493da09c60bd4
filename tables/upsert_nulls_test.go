package tables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
			s := tabletest.Open(t, t.TempDir(), &o)
			b := s.Bucket("")
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
			var schemaErr *tables.SchemaError
			if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1")), &tables.UpsertOptions{Keys: keys}); !errors.As(err, &schemaErr) {
				t.Errorf("%s: a null key without NullKeys: error %v, want a SchemaError", keyType, err)
			}
			result, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1", "x null", "null null", "x 3", "null 3")), &tables.UpsertOptions{Keys: keys, NullKeys: true})
			if err != nil || result.Deleted != 3 || result.Written != 5 {
				t.Errorf("%s: Upsert = %+v, %v; want Deleted 3 and Written 5", keyType, result, err)
			}
			if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows(2, "null 1", "null 1")), &tables.UpsertOptions{Keys: keys, NullKeys: true}); err == nil || !strings.Contains(err.Error(), "rows 1 and 2 have the same key") {
				t.Errorf("%s: an upsert with the same null key twice: error %v", keyType, err)
			}
			r, err := b.Table("t").Scan(t.Context(), &tables.ScanOptions{Columns: []string{"k", "l", "v"}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for r.Next() {
				c := r.RecordBatch()
				for i := range int(c.NumRows()) {
					got = append(got, strings.Join([]string{map[bool]string{true: "null", false: "x"}[c.Column(0).IsNull(i)], cellText(c.Column(1), i), cellText(c.Column(2), i)}, " "))
				}
			}
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			r.Release()
			slices.Sort(got)
			want := []string{"null 1 2", "null 2 1", "null 3 2", "null null 2", "x 1 1", "x 3 2", "x null 2"}
			if !slices.Equal(got, want) {
				t.Errorf("%s: rows %q, want %q", keyType, got, want)
			}
		}
	}
}

// TestUpsertManyNullKeys checks an upsert with null keys in a temporary file.
func TestUpsertManyNullKeys(t *testing.T) {
	t.Parallel()
	const columns, count = "k utf8; l int64", 20_000
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	var texts []string
	for i := range count {
		texts = append(texts, fmt.Sprintf(`{"k":null,"l":%d}`, i))
	}
	texts = append(texts, `{"k":"","l":1}`, `{"k":null,"l":null}`)
	rows := strings.Join(texts, ",")
	tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, columns, rows+`,{"k":"a","l":null}`), tables.PutAppend, nil)
	o := &tables.UpsertOptions{Keys: []string{"k", "l"}, NullKeys: true}
	if result, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows), o); err != nil || result.Deleted != count+2 || result.Written != count+2 {
		t.Errorf("Upsert = %+v, %v; want Deleted and Written %d", result, err, count+2)
	}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.JSONRows(t, columns, rows+`,{"k":null,"l":null}`), o); err == nil || !strings.Contains(err.Error(), "have the same key: remove one") {
		t.Errorf("an upsert with the same null key twice: error %v", err)
	}
}
