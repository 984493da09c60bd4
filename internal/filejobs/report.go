package filejobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/nearest"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
)

// Line is what a job tells of itself.
type Line struct {
	Name  string // for programs
	Label string // for people, "" if it is not for them
	Text  string // as they read it
	Value any
}

// report adds a line. A number stands for itself.
func (r *Result) report(name, label string, value any) {
	text := fmt.Sprint(value)
	if n, ok := value.(int64); ok {
		text = humanize.Comma(n)
	}
	r.Lines = append(r.Lines, Line{name, label, text, value})
}

// reportSorter adds what a sorter proved.
func (r *Result) reportSorter(stats extsort.Stats) {
	r.report("checksum", "", stats.Sum.String())
	r.report("proof", "proof", fmt.Sprintf("%s records in, as many out; the sum of their hashes is %v, in and out",
		humanize.Comma(stats.Records), stats.Sum))
	r.report("runs", "", stats.Runs)
	r.report("temporary_bytes", "temporary", stats.Written)
}

// CheckTally returns an error unless each byte of the input is accounted for.
func CheckTally(t *records.Tally) error {
	if !t.Accounted() {
		return fmt.Errorf("of %d bytes read, %d became records, and %d were left out: these do not add up",
			t.ReadBytes, t.RecordBytes, t.HeaderBytes+t.BlankBytes+t.BadBytes)
	}
	return nil
}

// Absent is the error for a member that no record has: most likely, its name is
// wrong.
func Absent(t *records.Tally) error {
	if len(t.Absent) == 0 {
		return nil
	}
	name, members := t.Absent[0].Name, records.Members(t.First)
	hint := nearest.Hint(name, members)
	if outer, _, ok := strings.Cut(name, "."); ok && slices.Contains(members, outer) {
		hint = fmt.Sprintf(" (only the members of the outermost object are fields, not those of %q)", outer)
	}
	if t.Records == 0 {
		hint = fmt.Sprintf("; the first left out: %v", t.FirstBad)
	}
	return fmt.Errorf("none of the %s read has a member %q%s", textfmt.Plural(t.Records+t.BadRecords, "record"), name, hint)
}

// SameCause reports whether the system gave two errors the same reason.
func SameCause(a, b error) bool {
	var number syscall.Errno
	return errors.As(a, &number) && errors.Is(b, number)
}

// joinErrors adds to an error that of closing something after it, unless that
// says the same.
func joinErrors(err, closing error) error {
	switch {
	case err == nil:
		return closing
	case closing == nil || errors.Is(err, closing) || errors.Is(closing, err) || SameCause(err, closing):
		return err
	}
	return errors.Join(err, closing)
}

func quoteShort(value []byte) string {
	const limit = 40
	if len(value) > limit {
		return fmt.Sprintf("%q…", value[:limit])
	}
	return fmt.Sprintf("%q", value)
}
