package tables_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestPutAndScan(t *testing.T) {
	dir := t.TempDir()
	s := tabletest.Open(t, dir, nil)
	b := s.Bucket("")
	if v := tabletest.Put(t, b, "a", tables.PutError, 1, 2); v != 1 {
		t.Fatalf("Put returned version %d, want 1", v)
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 3)
	tabletest.Put(t, b, "a", tables.PutAppend, 4)
	tabletest.WantRows(t, b, "a", 1, 2, 3, 4)
	if _, err := b.Table("a").Put(t.Context(), tabletest.Rows(9), tables.PutError, nil); !errors.Is(err, tables.ErrExists) {
		t.Fatalf("Put with PutError to an existing table: error = %v, want ErrExists", err)
	}
	tabletest.Put(t, b, "a", tables.PutReplace, 7, 8)
	tabletest.WantRows(t, b, "a", 7, 8)
	tabletest.Put(t, b, "a", tables.PutAppend, 9)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = tabletest.Open(t, dir, nil)
	b = s.Bucket("")
	tabletest.WantRows(t, b, "a", 7, 8, 9)
	table := b.Table("a")
	vs, err := table.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows []int64
	for _, v := range vs {
		rows = append(rows, v.Rows)
		old, err := b.Table("a").At(t.Context(), tables.AtVersion(v.Version))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tabletest.ReadAll(t.Context(), old, nil)
		if err != nil || int64(len(got)) != v.Rows {
			t.Fatalf("version %d: read rows %v, error %v; want %d rows", v.Version, got, err, v.Rows)
		}
	}
	if !slices.Equal(rows, []int64{2, 4, 2, 3}) {
		t.Fatalf("Versions = %+v, want row counts 2, 4, 2 and 3", vs)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Table("a").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
		t.Fatalf("Table of a deleted table: error = %v, want ErrNotFound", err)
	}
}

func TestInvalidOpenOptions(t *testing.T) {
	for want, o := range map[string]*tables.Options{
		"Tail and NoTail":          {NoTail: true, Tail: partd.NewDict()},
		"option Memory is -64 ":    {Memory: -64},
		"option FoldBytes is -64:": {FoldBytes: -64},
	} {
		if _, err := tables.Open(t.Context(), t.TempDir(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want an error about %q", err, want)
		}
	}
}

func TestInvalidPutOptions(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	v := tables.Version(1)
	for _, c := range []struct {
		mode tables.PutMode
		o    *tables.PutOptions
	}{{7, nil}, {tables.PutAppend, &tables.PutOptions{Over: &v}}} {
		_, err := b.Table("t").Put(t.Context(), tabletest.Rows(1), c.mode, c.o)
		if !errors.As(err, new(*tables.ArgumentError)) {
			t.Errorf("Put with mode %d and options %+v: error = %v, want an ArgumentError", c.mode, c.o, err)
		}
	}
}
