package cli

import (
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// TestShuffleProof checks that a shuffleProof detects missing, duplicated, changed and misplaced records, even if the
// sizes are correct.
func TestShuffleProof(t *testing.T) {
	good := []partd.Entry{{Key: "a", Value: []byte("1\n")}, {Key: "b", Value: []byte("2\n")}, {Key: "b", Value: []byte("3\n")}}
	for label, stored := range map[string][]partd.Entry{
		"":           good,
		"missing":    good[:2],
		"duplicated": append(good[:2:2], good[1]),
		"changed":    {good[0], good[1], {Key: "b", Value: []byte("4\n")}},
		"swapped":    {{Key: "b", Value: []byte("1\n")}, {Key: "a", Value: []byte("2\n")}, good[2]},
		"reversed":   {good[2], good[1], good[0]}, // the proof ignores the order
	} {
		store, err := logstore.Open(t.TempDir(), nil)
		must.Do(t, err)
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "before", Value: []byte("x")}))
		var p shuffleProof
		must.Do(t, p.begin(t.Context(), true, store))
		must.Do(t, store.Append(t.Context(), stored...))
		var list entryList
		for i := range good {
			list.addToSum(&good[i])
		}
		err = p.compare(t.Context(), int64(len(good)), list.sum)
		if wantErr := label != "" && label != "reversed"; wantErr != (err != nil) {
			t.Errorf("%q: compare = %v, want an error: %v", label, err, wantErr)
		}
		must.Do(t, store.Close())
	}
}
