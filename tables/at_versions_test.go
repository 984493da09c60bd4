package tables_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReturnedVersions checks that the version that each put returns contains the put's rows.
func TestReturnedVersions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	append1 := func(n int64) tables.Version {
		t.Helper()
		v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	read := func(v tables.Version, want ...int64) {
		t.Helper()
		old, err := table.At(t.Context(), tables.AtVersion(v))
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || !slices.Equal(ns, want) {
			t.Fatalf("version %d has rows %v, error %v; want rows %v", v, ns, err, want)
		}
	}
	listed := func(want ...tables.Version) {
		t.Helper()
		versions, err := table.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []tables.Version
		for _, i := range versions {
			got = append(got, i.Version)
			old, err := table.At(t.Context(), tables.AtVersion(i.Version))
			if err != nil {
				t.Fatal(err)
			}
			if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(ns)) != i.Rows {
				t.Errorf("version %d has rows %v, error %v; Versions says %d rows", i.Version, ns, err, i.Rows)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("Versions lists %v, want %v", got, want)
		}
	}
	if a, b, c := append1(1), append1(2), append1(3); a != 1 || b != 1 || c != 1 {
		t.Fatalf("three appends return versions %d, %d and %d, want 1", a, b, c)
	}
	listed(1)
	v := append1(4)
	if info, err := table.Info(t.Context()); err != nil || info.Version != v || info.Rows != 4 {
		t.Errorf("Info = %+v, error %v; want version %d with 4 rows", info, err, v)
	}
	read(v, 1, 2, 3, 4)
	read(1, 1, 2, 3)
	v = append1(5)
	replaced, err := table.Put(t.Context(), tabletest.Rows(9), tables.PutReplace, nil)
	if err != nil {
		t.Fatal(err)
	}
	read(v, 1, 2, 3, 4, 5)
	read(replaced, 9)
	listed(1, 2, 3, 4)
	v = append1(10)
	over, err := table.Put(t.Context(), tabletest.Rows(11), tables.PutReplace, &tables.PutOptions{Over: &v})
	if err != nil {
		t.Fatal(err)
	}
	read(v, 9, 10)
	read(over, 11)
	v = append1(12)
	widen := tables.ColumnChange{Op: tables.AddColumn, Column: "w", Type: "int64"}
	if err := table.Evolve(t.Context(), widen); err != nil {
		t.Fatal(err)
	}
	read(v, 11, 12)
	v = append1(13)
	if err := table.Evolve(t.Context(), tables.ColumnChange{Op: tables.WidenColumn, Column: "w", Type: "float64"}); err != nil { // rewrites the files
		t.Fatal(err)
	}
	read(v, 11, 12, 13)
	if _, err := table.At(t.Context(), tables.AtVersion(over+1)); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("At of a version that does not exist: error %v, want ErrNotFound", err)
	}
}

// TestFormat1Versions checks that puts to tables whose Iceberg format does not number versions return version 0, and that AtTime
// selects the snapshot of the moment.
func TestFormat1Versions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	createIceberg(t, s.Bucket(""), columns, iceberg.UnpartitionedSpec, 1)
	table := s.Bucket("").Table("t")
	var moments []time.Time
	for n := range int64(4) {
		if v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil); v != 0 || err != nil {
			t.Fatalf("Put = version %d, error %v; want version 0", v, err)
		}
		time.Sleep(2 * time.Millisecond)
		moments = append(moments, time.Now())
		time.Sleep(2 * time.Millisecond)
		tabletest.Fold(t, s)
	}
	for i, moment := range moments {
		old, err := table.At(t.Context(), tables.AtTime(moment))
		if err != nil {
			t.Fatal(err)
		}
		if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || len(ns) != i+1 {
			t.Errorf("AtTime after %d puts read rows %v, error %v", i+1, ns, err)
		}
	}
}
