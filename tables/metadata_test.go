package tables_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMetadataExact checks that metadata keeps the exact text of numbers.
func TestMetadataExact(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("b")
	tabletest.Put(t, b, "a", tables.PutError, 1)
	want := tables.Metadata{}
	for i, n := range []string{"3.14159265358979323846", "0.10000000000000000001", "12345678901234567890123", "1e400", "-0", "1.0", "1E-400", "1e999999999999"} {
		want[fmt.Sprint(i)] = json.Number(n)
	}
	must.Do(t, b.ChangeMetadata(t.Context(), tables.MetadataChange{Set: want}))
	must.Do(t, b.Table("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: want}))
	bucketMetadata, err := b.Metadata(t.Context())
	if err != nil || fmt.Sprint(bucketMetadata) != fmt.Sprint(want) {
		t.Errorf("bucket metadata = %v, want %v; error: %v", bucketMetadata, want, err)
	}
	info, err := b.Table("a").Info(t.Context())
	delete(info.Metadata, tables.UpdatedKey)
	if err != nil || fmt.Sprint(info.Metadata) != fmt.Sprint(want) {
		t.Errorf("table metadata = %v, want %v; error: %v", info.Metadata, want, err)
	}
	for _, c := range []struct {
		key, number string
		count       int
	}{
		{"0", "3.14159265358979323846", 1},
		{"0", "3.141592653589793", 0},
		{"0", "314159265358979323846e-20", 1},
		{"1", "0.1", 0},
		{"2", "1.2345678901234567890123e22", 1},
		{"3", "10e399", 1},
		{"3", "1e401", 0},
		{"4", "0", 1},
		{"4", "0e5", 1},
		{"5", "1", 1},
		{"5", "10e-1", 1},
		{"6", "0", 0},
		{"6", "0.1e-399", 1},
		{"7", "1e999999999999", 1},
	} {
		n := 0
		for _, err := range b.Tables(t.Context(), &tables.Filter{Metadata: tables.Metadata{c.key: json.Number(c.number)}}) {
			must.Do(t, err)
			n++
		}
		if n != c.count {
			t.Errorf("listing with metadata %s=%s found %d tables, want %d", c.key, c.number, n, c.count)
		}
	}
	many := tables.Metadata{}
	for i := range 1000 {
		many[fmt.Sprint("key ", i)] = i
	}
	must.Do(t, b.Table("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: many, Replace: true}))
	n := 0
	for _, err := range b.Tables(t.Context(), &tables.Filter{Metadata: many}) {
		must.Do(t, err)
		n++
	}
	if n != 1 {
		t.Errorf("listing with 1000 metadata keys found %d tables, want 1", n)
	}
	if err := b.Table("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": "\xff"}, Replace: true}); err == nil {
		t.Error("SetMetadata with invalid UTF-8 succeeded, want an error")
	}
	deep := strings.Repeat("[", 900) + strings.Repeat("]", 900)
	must.Do(t, b.Table("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": json.RawMessage(deep)}, Replace: true}))
	must.Do(t, s.Close())
	b = tabletest.Open(t, s.Dir(), nil).Bucket("b")
	tabletest.WantRows(t, b, "a", 1)
	deeper := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	if err := b.Table("a").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"k": json.RawMessage(deeper)}, Replace: true}); err == nil {
		t.Error("SetMetadata with too many levels succeeded, want an error")
	}
	tabletest.WantRows(t, b, "a", 1)
	tabletest.Put(t, b, "a", tables.PutAppend, 2)
	must.Get(b.Store().Fold(t.Context(), nil))(t)
	for _, err := range b.Tables(t.Context(), nil) {
		must.Do(t, err)
	}
}

// TestMetadataNotANumber checks that the error for a value that JSON lacks names the key.
func TestMetadataNotANumber(t *testing.T) {
	t.Parallel()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("b")
	for _, v := range []any{math.NaN(), math.Inf(1), []any{1, math.Inf(-1)}} {
		err := b.ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"lots": 1, "mean": v}})
		if err == nil || !strings.Contains(err.Error(), `key "mean": json: unsupported value`) {
			t.Errorf("metadata %v: the error is %v", v, err)
		}
	}
}
