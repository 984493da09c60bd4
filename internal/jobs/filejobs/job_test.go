package filejobs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/output"
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

// TestMergeLongRecord checks that the error for a record that is too long for a merge names its line and the limit.
func TestMergeLongRecord(t *testing.T) {
	name := filepath.Join(t.TempDir(), "long.csv")
	must.Do(t, os.WriteFile(name, []byte("n,t\n1,a\n2,"+strings.Repeat("x", 1<<20)+"\n"), 0o666))
	layout := records.Layout{Format: records.CSV}
	_, err := Run(t.Context(), &Options{Files: []string{name, name}, Out: io.Discard, From: layout, To: layout, Memory: 16 << 20, Threads: 2, Temp: []string{t.TempDir()}, Bar: progress.Start(io.Discard, false)}, Sort("n", true))
	if err == nil || !strings.Contains(err.Error(), "long.csv, line 3: too large") || !strings.Contains(err.Error(), "the limit for each file with --merge: increase --memory") {
		t.Errorf("a record of 1 MiB: %v", err)
	}
}

// TestMergeLongestRecord checks that a merge accepts records that are as long as a tenth of a file's share of three
// fifths of the memory, with their whole text as key, and no longer ones.
func TestMergeLongestRecord(t *testing.T) {
	const memory = 16 << 20
	dir := t.TempDir()
	for _, files := range []int{1, 2, 3, 30} {
		for _, threads := range []int{1, 14} {
			for extra, want := range []string{"", "the limit for each file with --merge"} {
				length := memory/5*3/files/10 + extra
				names := make([]string, files)
				for i := range names {
					names[i] = filepath.Join(dir, fmt.Sprint(i))
					must.Do(t, os.WriteFile(names[i], []byte(strings.Repeat("x", length-1)+"\n"), 0o666))
				}
				layout := records.Layout{Format: records.Text}
				_, err := Run(t.Context(), &Options{Files: names, Out: io.Discard, From: layout, To: layout, Memory: memory, Threads: threads, Temp: []string{dir}, Bar: progress.Start(io.Discard, false)}, Sort("1", true))
				if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%d files, %d threads, records of %d bytes: error %v, want %q", files, threads, length, err, want)
				}
			}
		}
	}
}

// TestJoinProof checks that the proof's verify returns an error if a record is read but not joined, is joined with
// different bytes, or is lost by the table. verifyRows returns an error if rows are missing.
func TestJoinProof(t *testing.T) {
	count := func(texts ...string) (c ledger.Count) {
		for _, text := range texts {
			c.AddRecord([]byte(text))
		}
		return c
	}
	ab := count("a", "b")
	complete := joinProof{read: ab, joined: ab, added: ab, remaining: ab}
	must.Do(t, complete.verify(2))
	for name, p := range map[string]joinProof{
		"read, but not joined":    {read: ab, joined: count("a"), added: ab, remaining: ab},
		"joined with other bytes": {read: ab, joined: count("a", "c"), added: ab, remaining: ab},
		"lost by the table":       {read: ab, joined: ab, added: ab, remaining: count("b")},
		"not looked up":           {read: count("a"), joined: count("a"), added: ab, remaining: ab},
	} {
		must.Fail(t, p.verify(2), ledger.ErrNotVerified, "%s: verify", name)
	}

	var file bytes.Buffer
	j := &Job{sink: &sink{Writer: output.NewWriter(t.Context(), &file)}}
	o := &joinOutput{job: j, left: &joinSide{kind: mergejoin.Semi}, converter: &converter{}}
	w := o.newWriter(t.Context(), 0)
	for range 2 {
		must.Do(t, w.writeWhole([]byte("a,b\n")))
	}
	if o.verifyRows(2, w) == nil {
		t.Error("verifyRows returned no error for rows that were not yet written")
	}
	must.Do(t, errors.Join(w.flush(), o.verifyRows(2, w)))
	if o.verifyRows(3, w) == nil {
		t.Error("verifyRows returned no error for a missing row")
	}
	must.Do(t, j.sink.Close())
}

// TestFirstKeysMemory checks that keys that replace shorter keys also count towards the memory limit.
func TestFirstKeysMemory(t *testing.T) {
	const limit = 100 << 10
	for name, sizes := range map[string][]int{"longer": {1, 1000}, "longer, then shorter, then longer": {300, 1, 900}} {
		f := &firstKeys{n: 200, maxBytes: limit}
		for round, size := range sizes {
			for i := range f.n {
				f.add(append([]byte{byte(100 - round), byte(255 - i)}, make([]byte, size)...))
			}
		}
		used := 0
		for _, k := range f.keys {
			used += cap(k)
		}
		if used > limit {
			t.Errorf("%s: the keys use %d bytes, want at most %d", name, used, limit)
		}
		if f.disabled && !f.add(bytes.Repeat([]byte{255}, 9)) {
			t.Errorf("%s: add rejected a key although firstKeys is disabled", name)
		}
	}
}

// TestFirstKeysKeepsEarlierKeys checks that a key equal to the largest of the first keys is rejected, because the
// earlier record comes first.
func TestFirstKeysKeepsEarlierKeys(t *testing.T) {
	f := &firstKeys{n: 2, maxBytes: 1 << 20}
	for i, want := range []struct {
		key   string
		added bool
	}{{"b", true}, {"c", true}, {"c", false}, {"d", false}, {"b", true}, {"b", false}, {"a", true}, {"b", false}} {
		if added := f.add([]byte(want.key)); added != want.added {
			t.Errorf("add %d, of %q, = %v, want %v", i, want.key, added, want.added)
		}
	}
	if f.dropped != 4 {
		t.Errorf("%d keys were dropped, want 4", f.dropped)
	}
}
