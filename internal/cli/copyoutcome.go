package cli

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// enter notes how far the copy is, also for a report that does not wait for it.
func (c *copying) enter(s stage) {
	c.stage = s
	advice := c.leaves(true)
	c.app.abandoned.Store(&advice)
}

// failed adds to an error what the target holds now, and how to go on.
func (c *copying) failed(err error) error {
	f := &failure{err: err}
	errors.As(err, &f)
	f.advice = c.leaves(c.touched)
	return f
}

// leaves says what the target holds if the copy ends now, and how to go on, if
// something of it may have been touched or not. The source is never changed.
func (c *copying) leaves(touched bool) string {
	to := *c.flags.to
	again := "Run the command again with --replace"
	if *c.flags.add {
		again = "Running the command again would double what is there of the copy"
	}
	dropped := c.held && *c.flags.replace
	switch {
	case c.stage == checking, c.stage == filling && !touched && !dropped:
		return ""
	case c.stage == dropping:
		return fmt.Sprintf("What %s held may be gone, all of it or a part. %s", to, again)
	case c.stage == compared:
		return fmt.Sprintf("Everything is stored in %s, and the comparison found no difference", to)
	case c.stage == differs:
		return fmt.Sprintf("The store %s cannot be trusted. %s", to, again)
	case c.stage == stored:
		return fmt.Sprintf("Everything is stored in %s, but was not compared. %s", to, again)
	case *c.flags.add:
		return fmt.Sprintf("The store %s now holds some of the copy beside what it held before. %s", to, again)
	case dropped && !touched:
		return fmt.Sprintf("What %s held was dropped; nothing is stored in its place. %s", to, again)
	}
	return fmt.Sprintf("The store %s is incomplete. %s", to, again)
}

// copyBatch gathers chunks into entries of one Append: those of one key into one
// entry, so that layers that compress get large pieces.
type copyBatch struct {
	entries []partd.Entry
	data    []byte
	start   int // of the last entry in data
	noted   int // what the entries take beside their values
}

const (
	mostCopyBatch   = 4 << 20
	mostCopyEntries = 4096
	mostCopyPiece   = 1 << 20
)

// newCopyBatch returns a batch for a store that has so much memory. What is noted
// of the values may come to as much as they.
func newCopyBatch(memory int64) *copyBatch {
	return &copyBatch{data: make([]byte, 0, min(mostBatch(memory), mostCopyBatch))}
}

func (b *copyBatch) reset() {
	clear(b.entries)
	b.entries, b.data, b.noted = b.entries[:0], b.data[:0], 0
}

// take copies as much of a chunk as there is room for, and returns the rest.
func (b *copyBatch) take(key string, data []byte) (rest []byte) {
	last := len(b.entries) - 1
	if last < 0 || b.entries[last].Key != key || len(b.data)-b.start >= mostCopyPiece {
		cost := len(key) + entryCost
		if last >= 0 && (len(b.entries) == mostCopyEntries || len(b.data)+b.noted+cost >= cap(b.data)) {
			return data
		}
		b.noted += cost
		b.entries = append(b.entries, partd.Entry{Key: key})
		last, b.start = last+1, len(b.data)
	}
	n := min(len(data), cap(b.data)-len(b.data), b.start+mostCopyPiece-len(b.data))
	b.data = append(b.data, data[:n]...)
	b.entries[last].Value = b.data[b.start:]
	return data[n:]
}
