package filejobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// Line is a line of a job's summary.
type Line struct {
	Name  string // key in JSON output
	Label string // label in text output; "" omits the line there
	Text  string // the value as text
	Value any
}

// Report adds a line to the summary. The text of an int64 has commas between thousands.
func (r *Result) Report(name, label string, value any) {
	text := fmt.Sprint(value)
	if n, ok := value.(int64); ok {
		text = humanize.Comma(n)
	}
	r.Lines = append(r.Lines, Line{name, label, text, value})
}

// ReportSorter adds a sorter's statistics, with the checksum that proves that it lost nothing.
func (r *Result) ReportSorter(stats extsort.Stats) {
	r.Report("checksum", "", stats.Sum.String())
	r.Report("proof", "proof", fmt.Sprintf("%s records in, the same number out; their hashes add up to %v, in and out",
		humanize.Comma(stats.Records), stats.Sum))
	r.Report("runs", "", stats.Runs)
	r.Report("temporary_bytes", "temporary", stats.Written)
}

// CheckTally returns an error unless every byte of the input is accounted for.
func CheckTally(t *records.Tally) error {
	if !t.Accounted() {
		return fmt.Errorf("%d bytes were read, but records have %d bytes and %d bytes were skipped, which does not add up",
			t.ReadBytes, t.RecordBytes, t.HeaderBytes+t.BlankBytes+t.BadBytes)
	}
	return nil
}

// CheckMembers returns an error if no record has a requested member: its name may be misspelled.
func CheckMembers(t *records.Tally) error {
	if len(t.Absent) == 0 {
		return nil
	}
	name, members := t.Absent[0].Name, records.Members(t.FirstRecord)
	hint := textfmt.Hint(name, members)
	if outer, _, ok := strings.Cut(name, "."); ok && slices.Contains(members, outer) {
		hint = fmt.Sprintf(" (only members of the outermost object are fields, not members of %q)", outer)
	}
	if t.Records == 0 && t.FirstBadErr != nil {
		hint = fmt.Sprintf("; the first bad record: %v", t.FirstBadErr)
	}
	return fmt.Errorf("none of the %s read has a member %q%s", textfmt.Plural(t.Records+t.Dropped+t.BadRecords, "record"), name, hint)
}

// SameCause reports whether two errors have the same system error number.
func SameCause(a, b error) bool {
	var number syscall.Errno
	return errors.As(a, &number) && errors.Is(b, number)
}

// JoinErrors joins an error and an error from closing a resource afterwards. It omits the second
// error if both have the same cause.
func JoinErrors(err, closeErr error) error {
	switch {
	case err == nil:
		return closeErr
	case closeErr == nil || errors.Is(err, closeErr) || errors.Is(closeErr, err) || SameCause(err, closeErr):
		return err
	}
	return errors.Join(err, closeErr)
}

// QuoteShort quotes the beginning of a value.
func QuoteShort(value []byte) string {
	const limit = 40
	if len(value) > limit {
		return fmt.Sprintf("%q…", value[:limit])
	}
	return fmt.Sprintf("%q", value)
}
