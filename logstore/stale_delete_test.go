package logstore

import (
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestDeleteAfterStaleLookup checks that a Delete fits into the active table although most of its keys were appended after
// the Delete had looked them up. It tries this with tables that are full to different degrees.
func TestDeleteAfterStaleLookup(t *testing.T) {
	for fill := range 60 {
		h := crashHooks
		h.tableBytes = 16 << 10
		h.fs = vfstest.NewMem()
		s, err := open(crashDir, nil, h)
		if err != nil {
			t.Fatal(err)
		}
		keys := make([]string, 100)
		entries := make([]partd.Entry, len(keys))
		for i := range keys {
			keys[i] = fmt.Sprintf("key %d", i)
			entries[i] = partd.Entry{Key: keys[i], Value: []byte("v")}
		}
		mustAppend(t, s, keys[0], "v")
		op := s.newDeleteOp(t.Context(), keys)
		if err := s.Append(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
		for i := range fill {
			mustAppend(t, s, "other", fmt.Sprintf("%300d", i))
		}
		if _, err := s.change(t.Context(), "delete", partd.Tag{}, op); err != nil {
			t.Fatal(err)
		}
		values, err := s.Get(t.Context(), keys...)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if len(v) > 0 {
				t.Errorf("after filling the table with %d values, %s was not deleted", fill, keys[i])
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
