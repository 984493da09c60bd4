package cli

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/internal/textfmt"
)

// summaryRecord is the summary of partd shuffle in JSON.
type summaryRecord struct {
	Store         string      `json:"store"`
	Records       int64       `json:"records"`
	Bytes         int64       `json:"bytes"` // of the records
	Keys          int64       `json:"keys"`  // of the store
	Files         int         `json:"files"`
	ReadBytes     int64       `json:"read_bytes"`
	HeaderBytes   int64       `json:"header_bytes"`
	BlankLines    int64       `json:"blank_lines"`
	BadRecords    int64       `json:"bad_records"`
	AddedNewlines int64       `json:"added_newlines"`
	Seconds       float64     `json:"seconds"`
	Proof         string      `json:"proof,omitempty"`
	Largest       []keyRecord `json:"largest"`
}

// summary says what was done and how to read it back.
func (j *shuffleRun) summary() error {
	if *j.flags.quiet && !*j.flags.asJSON {
		return nil
	}
	t := &j.tally
	return show(j.app.out, *j.flags.asJSON, summaryRecord{
		j.url, j.appended, j.bytes, j.after.Keys, len(j.in.Files), t.ReadBytes, t.HeaderBytes,
		t.BlankLines, t.BadRecords, t.AddedNewlines, j.seconds, j.proof.shown, keysJSON(j.largest),
	}, j.writeSummary)
}

func (j *shuffleRun) writeSummary(w io.Writer) {
	t := &j.tally
	fmt.Fprintf(w, "records   %d\nkeys      %d\nbytes     %s\n", j.appended, j.after.Keys, withUnit(j.bytes))
	writeTime(w, t.ReadBytes, j.seconds)
	var left []string
	if j.in.Columns != nil {
		left = append(left, "the header")
	}
	if t.BlankLines > 0 {
		left = append(left, textfmt.Plural(t.BlankLines, "empty line"))
	}
	if t.BadRecords > 0 {
		left = append(left, textfmt.Plural(t.BadRecords, "bad record"))
	}
	if len(left) > 0 {
		fmt.Fprintf(w, "left out  %s\n", strings.Join(left, ", "))
	}
	if t.FirstBad != nil {
		fmt.Fprintf(w, "          the first: %v\n", t.FirstBad)
	}
	if t.AddedNewlines > 0 {
		fmt.Fprintf(w, "added     %s\n", textfmt.Plural(t.AddedNewlines, "missing last newline"))
	}
	if j.proof.shown != "" {
		fmt.Fprintf(w, "proof     %s\n", j.proof.shown)
	} else if *j.flags.stats {
		fmt.Fprintf(w, "proof     %s bytes in, as many in the store, which keeps no checksum of records\n", humanize.Comma(j.bytes))
	}
	for _, note := range j.notes() {
		fmt.Fprintf(w, "note      %s\n", note)
	}
	if len(j.largest) == 0 {
		return
	}
	fmt.Fprintln(w, "\nlargest keys")
	chart(w, j.largest, width(j.app.out))
	store := storeArgument(j.url)
	fmt.Fprintf(w, "\nread them back\n  %s\n  %s\n", j.app.called("get"+store+keyArgument(j.largest[0])), j.app.called("keys"+store))
}

// notes tell of what is allowed and seldom meant.
func (j *shuffleRun) notes() []string {
	var notes []string
	const few = 1000 // records of which it says nothing that each has a key of its own
	if made := j.after.Keys - j.before.Keys; j.appended >= few && made >= j.appended/10*9 {
		notes = append(notes, fmt.Sprintf("nearly every record has a key of its own: is --by %s the field that was meant?", textfmt.ShellQuote(*j.flags.by)))
	}
	return append(notes, j.in.Note(j.layout)...)
}

// keyArgument returns a key as the argument of a command.
func keyArgument(k partd.KeyInfo) string {
	switch {
	case strings.Contains(k.Key, "\x00"): // no argument can hold it
		return " --base64 " + base64.StdEncoding.EncodeToString([]byte(k.Key))
	case strings.HasPrefix(k.Key, "-"):
		return " -- " + textfmt.ShellQuote(k.Key)
	}
	return " " + textfmt.ShellQuote(k.Key)
}

// show writes what a command found, in JSON or as text.
func show(out io.Writer, asJSON bool, record any, text func(w io.Writer)) error {
	w := bufio.NewWriter(out)
	if !asJSON {
		text(w)
	} else if err := newEncoder(w).Encode(record); err != nil {
		return err
	}
	return w.Flush()
}

// writeTime writes how long it took to read so many bytes, and how fast that is.
func writeTime(w io.Writer, bytes int64, seconds float64) {
	fmt.Fprintf(w, "time      %.2f s, %s\n", seconds, progress.Rate(float64(bytes)/max(seconds, 1e-6)))
}
