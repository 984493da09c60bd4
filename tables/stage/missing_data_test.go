package stage_test

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/stage"
)

// TestMissingData checks that a result is computed again if its data is missing, for example after an
// interrupted removal, or because another version of this package stored it.
func TestMissingData(t *testing.T) {
	store := partd.NewDict()
	r := open(t, t.TempDir(), &stage.Options{Store: store})
	computed := 0
	s := stage.Define("computed", func(context.Context, *stage.Inputs) (arrow.Table, error) {
		computed++
		return tableWith(1), nil
	}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
	run := func(want int) {
		t.Helper()
		if _, err := s.Run(t.Context(), r); err != nil || computed != want {
			t.Fatalf("computed %d times, want %d: %v", computed, want, err)
		}
	}
	run(1)
	var info string
	for k, err := range store.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(k.Key, "/info") {
			info = k.Key
		} else if err := store.Delete(t.Context(), k.Key); err != nil {
			t.Fatal(err)
		}
	}
	run(2)
	run(2)
	text, err := store.Get(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	infoStart, _, _ := strings.Cut(string(text[0]), `,"Data"`) // as stored by a version without the field Data
	if err := store.Set(t.Context(), info, []byte(infoStart+"}")); err != nil {
		t.Fatal(err)
	}
	run(3)
	run(3)
	if _, err := r.GC(t.Context(), &stage.GCOptions{TTL: 1}); err != nil {
		t.Errorf("GC failed: %v", err)
	}
}
