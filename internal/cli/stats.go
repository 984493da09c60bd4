package cli

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/internal/records"
)

// report is what a command on files tells of its run.
type report struct {
	start   time.Time
	seconds float64
	lines   []reportLine
}

type reportLine struct {
	name string // in JSON
	show string // the line's label; "" if it is for JSON alone
	text string // as people read it
	json any
}

// add adds a line. A number stands for itself.
func (r *report) add(name, show string, value any) {
	text := fmt.Sprint(value)
	if n, ok := value.(int64); ok {
		text = commas(n)
	}
	r.lines = append(r.lines, reportLine{name, show, text, value})
}

// checkTally tells whether each byte of the input is accounted for.
func checkTally(t *records.Tally) error {
	if !t.Accounted() {
		return fmt.Errorf("of %d bytes read, %d became records, and %d were left out: these do not add up",
			t.ReadBytes, t.RecordBytes, t.HeaderBytes+t.BlankBytes+t.BadBytes)
	}
	return nil
}

// summary writes what was done, where that is asked for.
func (j *fileJob) summary() error {
	var notes []string
	if j.notes != nil {
		notes = j.notes()
	}
	if hint := j.files.otherSep(j.layout); hint != "" && j.files.columns != nil {
		notes = append(notes, "the records have one field"+hint)
	}
	for _, note := range notes {
		if !*j.in.quiet {
			fmt.Fprintln(j.app.err, "partd: note:", note)
		}
	}
	if j.tally.FirstBad != nil && !*j.in.quiet && !*j.out.stats && !*j.in.asJSON {
		_, err := fmt.Fprintf(j.app.err, "partd: %s left out; the first: %v\n", plural(j.tally.BadRecords, "bad record"), j.tally.FirstBad)
		return err
	}
	if !*j.out.stats && !*j.in.asJSON {
		return nil
	}
	where := j.app.err
	if j.sink == nil || j.sink.file != nil {
		where = j.app.out // which has no data
	}
	w := bufio.NewWriter(where)
	if *j.in.asJSON {
		if err := j.writeJSON(w); err != nil {
			return err
		}
	} else if !*j.in.quiet {
		j.writeText(w)
	}
	return w.Flush()
}

func (j *fileJob) writeJSON(w *bufio.Writer) error {
	t := &j.tally
	all := map[string]any{
		"records": t.Records, "record_bytes": t.RecordBytes, "files": len(j.files.files),
		"input_bytes": j.files.read.Load(), "read_bytes": t.ReadBytes, "header_bytes": t.HeaderBytes,
		"blank_lines": t.BlankLines, "bad_records": t.BadRecords, "added_newlines": t.AddedNewlines,
		"seconds": j.report.seconds, "verified": true,
	}
	if j.sink != nil {
		all["output"], all["output_bytes"] = j.out.shownOutput(), j.sink.Bytes()
	}
	for _, l := range j.report.lines {
		all[l.name] = l.json
	}
	return newEncoder(w).Encode(all)
}

func (j *fileJob) writeText(w io.Writer) {
	t := &j.tally
	fmt.Fprintf(w, "records   %s, %s\n", commas(t.Records), withUnit(t.RecordBytes))
	for _, l := range j.report.lines {
		if l.show != "" {
			fmt.Fprintf(w, "%-9s %s\n", l.show, l.text)
		}
	}
	if t.BlankLines > 0 || t.BadRecords > 0 {
		fmt.Fprintf(w, "left out  %s, %s\n", plural(t.BlankLines, "empty line"), plural(t.BadRecords, "bad record"))
	}
	if t.FirstBad != nil {
		fmt.Fprintf(w, "          the first: %v\n", t.FirstBad)
	}
	if t.AddedNewlines > 0 {
		fmt.Fprintf(w, "added     %s\n", plural(t.AddedNewlines, "missing last newline"))
	}
	if j.sink != nil {
		fmt.Fprintf(w, "output    %s, %s\n", j.out.shownOutput(), withUnit(j.sink.Bytes()))
	}
	size := "which is their size"
	if j.files.size < 0 {
		size = "of unknown size"
	}
	fmt.Fprintf(w, "input     %s, %s bytes, %s\n", plural(int64(len(j.files.files)), "file"), commas(j.files.read.Load()), size)
	fmt.Fprintf(w, "time      %.2f s, %s\n", j.report.seconds, progress.Rate(float64(t.ReadBytes)/max(j.report.seconds, 1e-6)))
}

// plural returns a number and what it is of.
func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return commas(n) + " " + what + "s"
}
