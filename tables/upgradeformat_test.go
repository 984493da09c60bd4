package tables

import (
	"slices"
	"strings"
	"testing"
)

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
