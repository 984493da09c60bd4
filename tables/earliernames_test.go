package tables

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"
)

// TestNamesFromEarlierVersions checks that a store with a table that was created before column names were checked can be
// opened. Operations on the table fail with an error that names it, but it can be deleted.
func TestNamesFromEarlierVersions(t *testing.T) {
	t.Parallel()
	for _, isFolded := range []bool{true, false} { // before a fold, the catalog has a copy of the metadata, which must be changed too
		ctx, s := t.Context(), mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
		for i := range int64(2) {
			for _, table := range []string{"old", "good"} {
				mustPut(t, s.Bucket(""), table, PutAppend, i)
			}
			if i == 0 && isFolded {
				if _, err := s.Fold(ctx, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		path := tableFiles(t, s, "", "old")["metadata"][0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var changed []byte
		damage(t, path, func(b []byte) []byte {
			changed = bytes.ReplaceAll(b, []byte(`"name":"n"`), []byte(`"name":""`))
			return changed
		})
		hash := xxh3.Hash128(changed).Bytes()
		execInCatalog(t, s.Dir(), `UPDATE partd_files SET size=?, xxh3=? WHERE path='file://' || ?`, len(changed), hash[:], path)
		execInCatalog(t, s.Dir(), `UPDATE partd_light SET metadata=? WHERE location='file://' || ?`, changed, path)
		s = mustOpen(t, s.Dir(), &Options{FoldAge: -1})
		b := s.Bucket("")
		wantDamaged(t, b, "old")
		if _, _, err := read(ctx, b, "old"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"old"`) {
			t.Errorf(`folded %v: read error = %v, want ErrDamaged with the text "old"`, isFolded, err)
		}
		if _, err := s.Fold(ctx, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("Fold error = %v, want ErrDamaged", err)
		}
		mustPut(t, b, "good", PutAppend, 3)
		if err := b.Delete(ctx, "old"); err != nil {
			t.Errorf("folded %v: Delete: %v", isFolded, err)
		}
		wantDamaged(t, b)
		if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil {
			t.Error(err)
		}
		mustPut(t, b, "old", PutAppend, 3)
		wantRows(t, b, "old", 3)
	}
}
