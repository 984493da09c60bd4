package filejobs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestCompressedFileGrows checks that a compressed file that grows between the check and the reading causes an error,
// even if it is valid.
func TestCompressedFileGrows(t *testing.T) {
	var packed bytes.Buffer
	w := must.Get(zfile.NewWriter(compress.Gzip, &packed, 1))(t)
	must.Get(io.WriteString(w, "k,v\na,1\n"))(t)
	must.Do(t, w.Close())
	for _, grows := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "rows.csv.gz")
		must.Do(t, os.WriteFile(name, packed.Bytes(), 0o666))
		in := must.Get(OpenInputs(t.Context(), nil, []string{name}, records.Layout{Format: records.CSV}, 1<<20))(t)
		if grows {
			must.Do(t, os.WriteFile(name, append(bytes.Clone(packed.Bytes()), packed.Bytes()...), 0o666))
		}
		r, err := in.Files[0].Open()
		must.Do(t, err)
		must.Get(io.ReadAll(r))(t)
		err = r.Close()
		if grows != (err != nil) || grows && !strings.Contains(err.Error(), "the file changed during reading") {
			t.Errorf("Close = %v, want an error: %v", err, grows)
		}
	}
}

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

// TestNumberColumns checks that a first record that is longer than the bytes read does not give a wrong number of
// columns.
func TestNumberColumns(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{"a,b\n1,2\n", 2}, {"\n\na,b", 2}, {"\uFEFFa\n", 1}, {"", 0}, {strings.Repeat("x,", records.StartSize/2), 0},
	} {
		in := &Inputs{firstBytes: []byte(c.text)}
		if in.numberColumns(records.Layout{Format: records.CSV, NoHeader: true}); len(in.Columns) != c.want {
			t.Errorf("numberColumns after %.20q: %d columns, want %d", c.text, len(in.Columns), c.want)
		}
	}
}
