package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/base/textfmt"
)

type summaryRecord struct {
	Store         string      `json:"store"`
	Records       int64       `json:"records"`
	Bytes         int64       `json:"bytes"` // size of the records
	Keys          int64       `json:"keys"`  // number of keys in the store
	Files         int         `json:"files"`
	ReadBytes     int64       `json:"read_bytes"`
	HeaderBytes   int64       `json:"header_bytes"`
	BlankLines    int64       `json:"blank_lines"`
	BadRecords    int64       `json:"bad_records"`
	Filtered      int64       `json:"filtered_records,omitempty"`
	Filled        int64       `json:"filled_records,omitempty"`
	Cut           int64       `json:"cut_records,omitempty"`
	AddedNewlines int64       `json:"added_newlines"`
	Seconds       float64     `json:"seconds"`
	Proof         string      `json:"proof,omitempty"`
	Largest       []keyRecord `json:"largest"`
}

func (j *shuffleRun) summary() error {
	if !*j.flags.quiet {
		writeNotes(j.app.err, j.notes())
	} else if !*j.flags.asJSON {
		return nil
	}
	t := &j.tally
	return writeResult(j.app.out, *j.flags.asJSON, summaryRecord{
		Store:         j.url,
		Records:       j.appended,
		Bytes:         j.bytes,
		Keys:          j.statsAfter.Keys,
		Files:         len(j.in.Files),
		ReadBytes:     t.ReadBytes,
		HeaderBytes:   t.HeaderBytes,
		BlankLines:    t.BlankLines,
		BadRecords:    t.BadRecords,
		Filtered:      t.Dropped,
		Filled:        t.Mended.Filled,
		Cut:           t.Mended.Cut,
		AddedNewlines: t.AddedNewlines,
		Seconds:       j.seconds,
		Proof:         j.checksumProof.result,
		Largest:       keysJSON(j.largestKeys),
	}, j.writeSummary)
}

func (j *shuffleRun) writeSummary(w io.Writer) {
	t := &j.tally
	fmt.Fprintf(w, "records   %d\nkeys      %d\nbytes     %s\n", j.appended, j.statsAfter.Keys, withUnit(j.bytes))
	writeTime(w, t.ReadBytes, j.seconds)
	var skipped []string
	if j.in.Columns != nil {
		skipped = append(skipped, "the header")
	}
	if t.BlankLines > 0 {
		skipped = append(skipped, textfmt.Plural(t.BlankLines, "empty line"))
	}
	if t.Dropped > 0 {
		skipped = append(skipped, textfmt.Plural(t.Dropped, "record")+" by --where")
	}
	if t.BadRecords > 0 {
		skipped = append(skipped, textfmt.Plural(t.BadRecords, "bad record"))
	}
	if len(skipped) > 0 {
		fmt.Fprintf(w, "skipped   %s\n", strings.Join(skipped, ", "))
	}
	if t.FirstBadErr != nil {
		fmt.Fprintf(w, "          first bad record: %v\n", t.FirstBadErr)
	}
	if text := t.Mended.String(); text != "" {
		fmt.Fprintf(w, "ragged    %s\n", text)
	}
	if t.AddedNewlines > 0 {
		fmt.Fprintf(w, "added     newline at the end of %s\n", textfmt.Plural(t.AddedNewlines, "file"))
	}
	if j.checksumProof.result != "" {
		fmt.Fprintf(w, "proof     %s\n", j.checksumProof.result)
	} else if *j.flags.stats {
		fmt.Fprintf(w, "proof     %s bytes read, and the store grew by the same number (it has no checksum of records)\n", humanize.Comma(j.bytes))
	}
	if len(j.largestKeys) == 0 {
		return
	}
	fmt.Fprintln(w, "\nlargest keys")
	drawChart(w, j.largestKeys, progress.TerminalWidth(j.app.out, chartWidth))
	store := storeArgument(j.url)
	fmt.Fprintf(w, "\nread them back\n  %s\n  %s\n", j.app.commandLine("get"+store+keyArgument(j.largestKeys[0])), j.app.commandLine("keys"+store))
}

// notes returns warnings about likely mistakes.
func (j *shuffleRun) notes() []string {
	var notes []string
	const minRecords = 1000 // with fewer records, unique keys are not unusual
	if newKeys := j.statsAfter.Keys - j.statsBefore.Keys; j.appended >= minRecords && newKeys >= j.appended/10*9 {
		notes = append(notes, fmt.Sprintf("nearly every record has a unique key: is --by %s the right field?", textfmt.ShellQuote(*j.flags.by)))
	}
	return append(notes, j.in.Warnings(j.layout)...)
}

// keyArgument returns a key as an argument of a shell command, with a space before it.
func keyArgument(k partd.KeyInfo) string {
	switch {
	case strings.Contains(k.Key, "\x00"): // arguments cannot contain NUL
		return " --base64 " + base64.StdEncoding.EncodeToString([]byte(k.Key))
	case strings.HasPrefix(k.Key, "-"):
		return " -- " + textfmt.ShellQuote(k.Key)
	}
	return " " + textfmt.ShellQuote(k.Key)
}
