package tables

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/filter"
)

// TestNullsFromEarlierVersions checks that operations that write rows to files change no rows, even if nested
// fields that do not allow nulls contain nulls, which earlier versions accepted.
func TestNullsFromEarlierVersions(t *testing.T) {
	number := arrow.PrimitiveTypes.Int64
	point := arrow.StructOf(arrow.Field{Name: "p", Type: number}, arrow.Field{Name: "q", Type: arrow.BinaryTypes.String, Nullable: true})
	list := arrow.ListOfField(arrow.Field{Name: "element", Type: number})
	fields := []arrow.Field{
		{Name: "a", Type: arrow.FixedWidthTypes.Date32},
		{Name: "b", Type: list, Nullable: true},
		{Name: "c", Type: point, Nullable: true},
		{Name: "d", Type: arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.StructOf(arrow.Field{Name: "l", Type: list})}), Nullable: true},
		{Name: "e", Type: arrow.MapOf(point, point), Nullable: true},
	}
	rows := func(days string, columns ...string) arrow.RecordBatch {
		all := []arrow.Array{jsonArray(t, fields[0].Type, days)}
		for i, values := range columns {
			all = append(all, jsonArray(t, fields[i+1].Type, values))
		}
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), all, int64(all[0].Len()))
	}
	good := rows(`["2000-01-01","2000-01-02","2000-01-03"]`, `[[1,2],null,[3]]`, `[{"p":1,"q":"x"},null,{"p":2}]`, `[[{"l":[1]},{"l":[2,3]}],null,[]]`,
		`[[{"key":{"p":1,"q":"k"},"value":{"p":2}}],null,[]]`)
	bad := rows(`["2000-01-04","2000-01-05","2000-01-06"]`, `[[7,null,8],[9],[10,null]]`, `[{"p":null,"q":"bad"},{"p":5,"q":"last"},null]`,
		`[[{"l":[1]},{"l":[null,3]}],[{"l":null}],[{"l":[4]}]]`,
		`[[{"key":{"p":null,"q":"k"},"value":{"p":null,"q":"v"}}],[{"key":{"p":1},"value":null}],[{"key":{"p":3},"value":{"p":4}}]]`)
	secondRow, err := filter.Parse("a = '2000-01-02'")
	if err != nil {
		t.Fatal(err)
	}
	keepBatch := func(old arrow.RecordBatch) (arrow.RecordBatch, error) {
		old.Retain()
		return old, nil
	}
	operations := map[string]func(*Store, *Bucket) error{
		"fold":     func(s *Store, _ *Bucket) error { _, err := s.Fold(t.Context(), nil); return err },
		"snapshot": func(_ *Store, b *Bucket) error { _, err := b.Snapshot(t.Context(), "s"); return err },
		"evolve": func(_ *Store, b *Bucket) error {
			return b.Table("t").Evolve(t.Context(), ColumnChange{Op: AddColumn, Column: "z", Type: "int64"})
		},
		"migrate": func(_ *Store, b *Bucket) error { _, err := b.Table("t").Migrate(t.Context(), 1, keepBatch); return err },
		"put": func(_ *Store, b *Bucket) error {
			_, err := b.Table("t").Put(t.Context(), readerOf(t, good), PutAppend, nil)
			return err
		},
		"upsert": func(_ *Store, b *Bucket) error {
			_, err := b.Table("t").Upsert(t.Context(), readerOf(t, good), &UpsertOptions{Keys: []string{"a"}})
			return err
		},
		"delete": func(_ *Store, b *Bucket) error { _, err := b.Table("t").DeleteRows(t.Context(), secondRow); return err },
	}
	for name, operation := range operations {
		for _, settings := range []*Settings{nil, {Time: "a"}} {
			t.Run(fmt.Sprintf("%s, in order %v", name, settings != nil), func(t *testing.T) {
				s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
				b := s.Bucket("b")
				if _, err := b.Table("t").Put(t.Context(), readerOf(t, good), PutAppend, &PutOptions{Settings: settings}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Fold(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				appendUnchecked(t, s, bad)
				before := rowTexts(t, b, "t")
				if len(before) != 6 || !strings.Contains(before[3], "null") {
					t.Fatalf("rows before the operation: %q, want 6 with nulls in the fourth", before)
				}
				if err := operation(s, b); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Fold(t.Context(), nil); err != nil {
					t.Error(err)
				}
				after := rowTexts(t, b, "t")
				for _, row := range before {
					if name == "delete" && strings.HasPrefix(row, "2000-01-02 ") {
						continue
					}
					if !slices.ContainsFunc(after, func(r string) bool { return r == row || name == "evolve" && r == row+" (null)" }) {
						t.Errorf("row %q is missing after the operation:\n%q", row, after)
					}
				}
				if _, err := s.Verify(t.Context(), nil); err != nil {
					t.Error(err)
				}
				if _, err := b.Table("t").Put(t.Context(), readerOf(t, bad), PutAppend, nil); err != nil { // the table accepts nulls now
					t.Error(err)
				}
				if _, err := s.Fold(t.Context(), nil); err != nil {
					t.Error(err)
				}
				if got := rowTexts(t, b, "t"); len(got) != len(after)+len(before)-3 {
					t.Errorf("after another put: got %d rows, want %d", len(got), len(after)+len(before)-3)
				}
			})
		}
	}
}
