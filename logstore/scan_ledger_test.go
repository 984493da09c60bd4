package logstore

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestScanComparesLedgers checks that a Scan compares the data with the ledger (counts and sums of hashes).
func TestScanComparesLedgers(t *testing.T) {
	s, _ := rangesStore(t, scanHooks(vfstest.NewMem()))
	defer s.Close()
	right := s.segments.list[0].ledger
	for name, change := range map[string]func(l *Ledger){
		"lost piece":       func(l *Ledger) { l.Pieces++ },
		"duplicated piece": func(l *Ledger) { l.Pieces-- },
		"changed piece":    func(l *Ledger) { l.Sum.Lo++ },
		"lost reset":       func(l *Ledger) { l.Marks++ },
	} {
		change(&s.segments.list[0].ledger)
		for _, parts := range []int{0, 1} {
			chunks := s.Scan(t.Context())
			if parts == 1 {
				chunks = s.ScanPart(t.Context(), 0, 1)
			}
			var corrupt *partd.CorruptError
			if _, err := collectParts(chunks); !errors.As(err, &corrupt) {
				t.Errorf("%s, scan of all keys in %d parts (0: not divided): error %v, want a CorruptError", name, parts, err)
			}
		}
		s.segments.list[0].ledger = right
	}
	if _, err := collectParts(s.Scan(t.Context())); err != nil {
		t.Fatal(err)
	}
}
