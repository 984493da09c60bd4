package shuffle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/storekit"
)

// addControl adds the commit in a frame of controlKey's value, if it holds one.
func (c *Committed) addControl(kind byte, rest []byte) error {
	switch kind {
	case frameCommit:
		commit, err := parseCommit(rest)
		if err != nil {
			return err
		}
		if _, committed := c.index[commit.Task]; !committed { // a task's first commit wins
			c.index[commit.Task] = len(c.winners)
			c.winners = append(c.winners, commit)
		}
	case framePiece: // a user's key may equal controlKey; skip its data
	default:
		return errFrame
	}
	return nil
}

// WaitOptions are the options for [WaitCommitted]. Set either Tasks or Count.
type WaitOptions struct {
	Tasks []string // names of the tasks
	Count int      // number of tasks, whatever their names
	// Timeout limits the wait. If it is 0, only the context limits it.
	Timeout time.Duration
}

// MissingError lists the tasks that had not committed when WaitCommitted gave up.
type MissingError struct {
	Committed int      // number of tasks that have committed
	Expected  int      // number of tasks that must commit
	Missing   []string // names of tasks that have not committed, if known
	Err       error    // the reason why the wait ended
}

func (e *MissingError) Error() string {
	text := fmt.Sprintf("shuffle: waiting for tasks: %d of %d have committed", e.Committed, e.Expected)
	const maxListed = 10
	if n := len(e.Missing); n > 0 {
		names := make([]string, min(n, maxListed))
		for i := range names {
			names[i] = storekit.QuoteKey(e.Missing[i])
		}
		text += ", missing: " + strings.Join(names, ", ")
		if n > maxListed {
			text += fmt.Sprintf(" and %d more", n-maxListed)
		}
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns the reason why the wait ended.
func (e *MissingError) Unwrap() error { return e.Err }

const (
	firstPoll  = 10 * time.Millisecond
	maxPoll    = time.Second
	idleFactor = 10 // wait at least this multiple of the time that reading the control key took
)

// WaitCommitted waits until the tasks have committed and returns their data. On timeout,
// or when the context ends, it returns a *MissingError. It also returns an error if an
// unexpected task has committed, because neither using nor omitting its data would be safe.
//
// Stores do not report appends, so WaitCommitted polls the control key: at first after 10 ms,
// later every second. After a slow read, it waits ten times as long as the read took.
func WaitCommitted(ctx context.Context, store partd.Partd, o *WaitOptions) (*Committed, error) {
	opts := *cmp.Or(o, new(WaitOptions))
	if opts.Count < 0 || (opts.Count > 0) == (len(opts.Tasks) > 0) {
		return nil, argumentErrorf("waiting for tasks: set either Tasks or a positive Count")
	}
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	missing := &MissingError{Expected: max(opts.Count, len(opts.Tasks)), Missing: opts.Tasks}
	for wait := firstPoll; ; wait = min(2*wait, maxPoll) {
		start := time.Now()
		c, err := ReadCommitted(ctx, store)
		switch {
		case err == nil:
			missing, err = opts.missing(c)
			if err != nil {
				return nil, err
			}
			if missing == nil {
				return c, nil
			}
		case ctx.Err() == nil:
			return nil, errorf("waiting for tasks: %w", err)
		}
		select {
		case <-ctx.Done():
			missing.Err = canceled.Err(ctx)
			if err != nil { // a failing store may be why commits are missing
				missing.Err = fmt.Errorf("%w; the last read of the store failed: %w", missing.Err, err)
			}
			return nil, missing
		case <-time.After(max(wait, idleFactor*time.Since(start))):
		}
	}
}

// missing returns the tasks that have not committed yet, or nil if all tasks have committed.
func (o *WaitOptions) missing(c *Committed) (*MissingError, error) {
	m := &MissingError{Committed: len(c.winners)}
	if o.Count > 0 {
		m.Expected = o.Count
		if m.Committed > m.Expected {
			return nil, errorf("waiting for %d tasks: %d have committed, more than expected", m.Expected, m.Committed)
		}
		if m.Committed == m.Expected {
			return nil, nil
		}
		return m, nil
	}
	expected := map[string]bool{}
	for _, task := range o.Tasks {
		if _, committed := c.index[task]; !committed && !expected[task] {
			m.Missing = append(m.Missing, task)
		}
		expected[task] = true
	}
	m.Expected, m.Committed = len(expected), len(expected)-len(m.Missing)
	if len(m.Missing) > 0 {
		return m, nil
	}
	if i := slices.IndexFunc(c.winners, func(w Commit) bool { return !expected[w.Task] }); i >= 0 {
		return nil, errorf("task %s has committed, but is not one of the %d expected tasks", storekit.QuoteKey(c.winners[i].Task), m.Expected)
	}
	return nil, nil
}
