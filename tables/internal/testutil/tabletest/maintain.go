package tabletest

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"

	"github.com/go-partd/partd/tables"
)

func Maintain(t *testing.T, s *tables.Store, o *tables.MaintainOptions) tables.MaintainResult {
	t.Helper()
	r, err := s.Maintain(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func MaintenanceOf(t *testing.T, b *tables.Bucket, name string) tables.MaintenanceState {
	t.Helper()
	state, err := b.Table(name).Maintenance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// SweepAll compacts tables, and removes all versions and files that can be removed. It calls Expire twice: the first
// call records the files that the second call removes.
func SweepAll(t testing.TB, s *tables.Store) (removed int) {
	t.Helper()
	_, err := s.Compact(t.Context(), nil)
	must.Do(t, err)
	for range 2 {
		r, err := s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1})
		must.Do(t, err)
		removed += r.FilesRemoved
	}
	return removed
}
