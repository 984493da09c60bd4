package tables

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestSnapshotInOrder reads a snapshot of a table whose files overlap in time.
func TestSnapshotInOrder(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), &Options{NoTail: true})
	b := s.Bucket("b")
	o := &PutOptions{Settings: &Settings{Time: "ts"}}
	for _, at := range [][]tick{{{1, "a", 0, 0}, {4, "a", 1, 0}}, {{0, "a", 2, 0}, {3, "a", 3, 0}, {9, "a", 4, 0}}} {
		if _, err := b.Put(t.Context(), "t", ticksOf(at, 10), Append, o); err != nil {
			t.Fatal(err)
		}
	}
	mustSnapshot(t, b, "x")
	tab, err := b.Table(t.Context(), "t", AtSnapshot("x"))
	mustDo(t, err)
	rows, err := ticksFrom(tab.Scan(t.Context(), nil))
	if err != nil || !slices.IsSortedFunc(rows, func(a, b tick) int { return int(a.ts - b.ts) }) || len(rows) != 5 {
		t.Error(rows, err)
	}
	last, err := ticksFrom(tab.Tail(t.Context(), 2))
	if err != nil || len(last) != 2 || last[0].ts != 4 {
		t.Error(last, err)
	}
}

// TestSnapshotRenamed has somebody else rename a table that has rows in the tail
// before its snapshot is taken.
func TestSnapshotRenamed(t *testing.T) {
	t.Parallel()
	for _, seen := range []bool{false, true} {
		dir := t.TempDir()
		s := mustOpen(t, dir, &Options{FoldAge: -1})
		b := s.Bucket("")
		mustPut(t, b, "a", Append, 0)
		mustPut(t, b, "a", Append, 1)
		foreign(t, dir, `UPDATE iceberg_tables SET table_name='b' WHERE table_name='a'`)
		if seen {
			if _, ok, err := read(t.Context(), b, "a"); ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		mustSnapshot(t, b, "x")
		wantAt(t, b, "x", "b", 0, 1)
	}
}

// TestMetadataExact keeps numbers as they are.
func TestMetadataExact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	b := s.Bucket("b")
	mustPut(t, b, "a", Error, 1)
	want := Metadata{}
	for i, n := range []string{"3.14159265358979323846", "0.10000000000000000001", "12345678901234567890123", "1e400", "-0", "1.0", "1E-400", "1e999999999999"} {
		want[fmt.Sprint(i)] = json.Number(n)
	}
	for _, name := range []string{"", "a"} {
		mustDo(t, b.ChangeMetadata(t.Context(), name, MetadataChange{Set: want}))
	}
	of, err := b.Metadata(t.Context())
	if err != nil || fmt.Sprint(of) != fmt.Sprint(want) {
		t.Errorf("%v, want %v: %v", of, want, err)
	}
	tab, err := b.Table(t.Context(), "a")
	mustDo(t, err)
	info, err := tab.Info(t.Context())
	delete(info.Metadata, UpdatedKey)
	if err != nil || fmt.Sprint(info.Metadata) != fmt.Sprint(want) {
		t.Errorf("%v, want %v: %v", info.Metadata, want, err)
	}
	for _, c := range []struct {
		key, number string
		found       int
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
		for _, err := range b.Tables(t.Context(), &Filter{Metadata: Metadata{c.key: json.Number(c.number)}}) {
			mustDo(t, err)
			n++
		}
		if n != c.found {
			t.Errorf("%s=%s finds %d", c.key, c.number, n)
		}
	}
	many := Metadata{}
	for i := range 1000 {
		many[fmt.Sprint("key ", i)] = i
	}
	mustDo(t, b.SetMetadata(t.Context(), "a", many))
	n := 0
	for _, err := range b.Tables(t.Context(), &Filter{Metadata: many}) {
		mustDo(t, err)
		n++
	}
	if n != 1 {
		t.Error("many keys find", n)
	}
	if err := b.SetMetadata(t.Context(), "a", Metadata{"k": "\xff"}); err == nil {
		t.Error("no error for invalid UTF-8")
	}
	deep := strings.Repeat("[", 900) + strings.Repeat("]", 900)
	if err := b.SetMetadata(t.Context(), "a", Metadata{"k": json.RawMessage(deep)}); err != nil {
		t.Error(err)
	}
	mustDo(t, s.Close())
	b = mustOpen(t, dir, nil).Bucket("b")
	wantRows(t, b, "a", 1)
	deeper := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	if err := b.SetMetadata(t.Context(), "a", Metadata{"k": json.RawMessage(deeper)}); err == nil {
		t.Error("no error for many levels")
	}
	wantRows(t, b, "a", 1)
	mustPut(t, b, "a", Append, 2)
	_, err = b.s.Fold(t.Context(), nil)
	mustDo(t, err)
	for _, err := range b.Tables(t.Context(), nil) {
		mustDo(t, err)
	}
}

// TestSnapshotNames takes snapshots of odd names.
func TestSnapshotNames(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), nil)
	b := s.Bucket("it's \"a\" bücket/..")
	mustPut(t, b, "t%_'", Error, 1)
	for _, name := range []string{"it's", "a/../b", "%", "_", "\u202e\n", strings.Repeat("x", MaxName), " "} {
		mustSnapshot(t, b, name)
		wantAt(t, b, name, "t%_'", 1)
	}
	for _, name := range []string{"\xff", "a\x00b", strings.Repeat("x", MaxName+1)} {
		if _, err := b.Snapshot(t.Context(), name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	mustDo(t, b.DeleteSnapshot(t.Context(), "%"))
	mustDo(t, b.DeleteSnapshot(t.Context(), ""))
	if all, err := b.Snapshots(t.Context()); err != nil || len(all) != 6 {
		t.Error(len(all), err)
	}
	mustDo(t, b.Restore(t.Context(), "it's"))
}

// TestUpgradeFormat opens a directory of format 1, which had no index of metadata.
func TestUpgradeFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Bucket("").Put(t.Context(), name, rowsOf(1), Error, &PutOptions{Metadata: Metadata{"name": name}}); err != nil {
			t.Fatal(err)
		}
	}
	mustDo(t, s.Close())
	foreign(t, dir, `UPDATE partd_info SET value='1' WHERE key='format';
		DROP TABLE partd_meta; DROP TABLE partd_unlisted; DROP TRIGGER partd_made; DROP TRIGGER partd_renamed;
		DROP TABLE partd_snapshots; DROP TABLE partd_snapshot_tables; UPDATE partd_tables SET metadata_location='' WHERE name='b'`)
	s = mustOpen(t, dir, nil)
	for _, name := range []string{"a", "b"} {
		for info, err := range s.Bucket("").Tables(t.Context(), &Filter{Metadata: Metadata{"name": name}}) {
			if err != nil || info.Name != name {
				t.Error(info, err)
			}
			name = ""
		}
		if name != "" {
			t.Error(name, "is not found")
		}
	}
	if names, err := s.cat.Unlisted(t.Context(), namespaceOf("")); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Error(names, err)
	}
	mustSnapshot(t, s.Bucket(""), "x")
	mustDo(t, s.Close())
	foreign(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer one") {
		t.Error(err)
	}
}
