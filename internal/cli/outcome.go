package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-partd/partd"
)

// stage is how far a job is.
type stage uint8

const (
	checking stage = iota // nothing was changed yet
	dropping              // what the store held
	filling               // the store
	stored                // all records, but not compared
	differs               // the comparison found a difference
	compared              // without a difference
)

// enter notes how far the job is, also for a report that does not wait for it.
func (j *job) enter(s stage) {
	j.stage = s
	advice := j.leaves(0, false)
	j.app.abandoned.Store(&advice)
}

// failed adds to an error what the store holds now, and how to go on.
func (j *job) failed(err error) error {
	f := &failure{err: err}
	errors.As(err, &f)
	// Records that a layer held back are in the store beneath once it is closed.
	safe := j.appended
	if f.closing != nil {
		safe = 0
	}
	// An append that failed may be there all the same.
	touched := j.appended > 0 || errors.Is(f.err, partd.ErrUnknownOutcome)
	f.advice = j.leaves(safe, !touched)
	return f
}

// leaves says what the store holds if the job ends now, and how to go on. Of
// the records, safe are known to be stored; untouched says that none is.
func (j *job) leaves(safe int64, untouched bool) string {
	url := *j.flags.url
	again := "Run the command again with --replace"
	if *j.flags.add {
		again = "Running the command again would double them"
	}
	switch {
	case j.stage == dropping:
		return fmt.Sprintf("What %s held may be gone, all of it or a part. %s", url, again)
	case j.stage == compared:
		return fmt.Sprintf("All records are stored in %s, and the comparison found no difference", url)
	case j.stage == differs:
		return fmt.Sprintf("The store %s cannot be trusted. %s", url, again)
	case j.stage == stored && *j.flags.add:
		return fmt.Sprintf("All records are stored in %s, but were not compared with what was read. %s", url, again)
	case j.stage == stored:
		return fmt.Sprintf("All records are stored in %s, but were not compared with what was read: "+
			"compare %d bytes with those of \"%s\". Or run the command again with --replace",
			url, j.bytes, j.app.called("stat"+storeArgument(url)))
	case j.stage == checking || untouched && !j.dropped:
		return ""
	case untouched:
		return fmt.Sprintf("What %s held was dropped; nothing is stored in its place. %s", url, again)
	case *j.flags.add:
		return fmt.Sprintf("The store %s now holds some of these records beside what it held before. %s", url, again)
	}
	count := ""
	if safe > 0 {
		count = fmt.Sprintf(" (at least %s records)", commas(safe))
	}
	if j.dropped {
		return fmt.Sprintf("What %s held was dropped; what is there now is incomplete%s. %s", url, count, again)
	}
	return fmt.Sprintf("The store %s is incomplete%s. %s", url, count, again)
}

// commas writes a number of records or bytes with commas, as 32,768.
func commas(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
