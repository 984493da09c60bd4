package filejobs

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// TestProofs checks that CheckTally and verify return errors if the counts do not add up.
func TestProofs(t *testing.T) {
	if err := CheckTally(&records.Tally{ReadBytes: 10, RecordBytes: 9}); err == nil || !strings.Contains(err.Error(), "does not add up") {
		t.Errorf("CheckTally with an uncounted byte = %v, want an error", err)
	}
	j := &Job{}
	top := &FirstSorter{written: 2, dropped: 3}
	if top.verify(j, 6, "records") == nil || top.verify(j, 5, "records") != nil {
		t.Error("FirstSorter.verify does not detect a missing record, or rejects correct counts")
	}
	j.ReportSorter(extsort.Stats{Records: 3})
}
