package filejobs

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
)

// Bytes that are in no count, and counts that do not add up, are errors.
func TestProofsSee(t *testing.T) {
	if err := CheckTally(&records.Tally{ReadBytes: 10, RecordBytes: 9}); err == nil || !strings.Contains(err.Error(), "do not add up") {
		t.Error(err)
	}
	j := &job{}
	top := &topEngine{written: 2, dropped: 3}
	if top.prove(j, 6, "records") == nil || top.prove(j, 5, "records") != nil {
		t.Error("top does not see a record that is missing")
	}
	j.reportSorter(extsort.Stats{Records: 3})
}
