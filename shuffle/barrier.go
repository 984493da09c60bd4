package shuffle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// control is what the control key says.
type control struct {
	winners []Commit
	index   map[string]int // of winners, by task
	tasks   []string       // that were listed before the list was closed
	listed  map[string]bool
	closed  bool
}

func readControl(ctx context.Context, store partd.Partd) (*control, error) {
	c := &control{index: map[string]int{}, listed: map[string]bool{}}
	return c, readFrames(ctx, store, ControlKey, c.frame)
}

func (c *control) frame(kind byte, rest []byte) error {
	switch kind {
	case frameCommit:
		commit, err := parseCommit(rest)
		if err != nil {
			return err
		}
		if _, done := c.index[commit.Task]; !done { // the first wins
			c.index[commit.Task] = len(c.winners)
			c.winners = append(c.winners, commit)
		}
	case frameTasks:
		for len(rest) > 0 && !c.closed {
			name, after, err := cut(rest)
			if err != nil {
				return err
			}
			if rest = after; !c.listed[string(name)] {
				c.listed[string(name)] = true
				c.tasks = append(c.tasks, string(name))
			}
		}
	case frameClosed:
		c.closed = true
	case framePiece: // the control key is a key like others
	default:
		return errFrame
	}
	return nil
}

func (c *control) committed(store partd.Partd) *Committed {
	return &Committed{store: store, winners: c.winners, index: c.index}
}

// ErrTasksClosed is wrapped by the error for a task that is added after the list was
// closed.
var ErrTasksClosed = errors.New("the list of tasks is closed")

// AddTasks adds tasks to a store's list, which [WaitCommitted] waits for. A task
// may be added twice. If the list was closed before, the error wraps
// [ErrTasksClosed].
func AddTasks(ctx context.Context, store partd.Partd, tasks ...string) error {
	var content []byte
	for _, task := range tasks {
		if err := checkName("task", task); err != nil {
			return err
		}
		content = appendText(content, task)
	}
	if err := announce(ctx, store, appendControl(nil, frameTasks, content)); err != nil {
		return fmt.Errorf("adding %d tasks to the list: %w", len(tasks), err)
	}
	c, err := readControl(ctx, store)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if !c.listed[task] {
			return fmt.Errorf("adding task %s: %w", partd.QuoteKey(task), ErrTasksClosed)
		}
	}
	return nil
}

// CloseTasks closes the list of tasks. It may be closed twice.
func CloseTasks(ctx context.Context, store partd.Partd) error {
	if err := announce(ctx, store, appendControl(nil, frameClosed, nil)); err != nil {
		return fmt.Errorf("closing the list of tasks: %w", err)
	}
	return nil
}

// WaitOptions says what [WaitCommitted] waits for: Tasks or Count, or, if neither is
// set, until the list in the store is closed and all of its tasks have committed.
type WaitOptions struct {
	Tasks []string // these
	Count int      // this number of tasks, whatever their names
	// Timeout limits the waiting; 0 means to wait until the context ends.
	Timeout time.Duration
}

// MissingError says which tasks had not committed when the waiting ended.
type MissingError struct {
	Committed int      // tasks that have
	Expected  int      // total number of tasks, as far as known
	Missing   []string // the names of those that have not, if they are known
	Open      bool     // the list of tasks was not closed
	Err       error    // why the waiting ended
}

func (e *MissingError) Error() string {
	text := fmt.Sprintf("waiting for tasks: %d of %d have committed", e.Committed, e.Expected)
	const maxListed = 10
	if n := len(e.Missing); n > 0 {
		names := make([]string, min(n, maxListed))
		for i := range names {
			names[i] = partd.QuoteKey(e.Missing[i])
		}
		text += ", missing: " + strings.Join(names, ", ")
		if n > maxListed {
			text += fmt.Sprintf(" and %d more", n-maxListed)
		}
	}
	if e.Open {
		text += "; the list of tasks is not closed"
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns why the waiting ended.
func (e *MissingError) Unwrap() error { return e.Err }

const (
	firstPoll = 10 * time.Millisecond
	maxPoll   = time.Second
	idleTimes = 10 // as long as it took to look, where there are very many tasks
)

// WaitCommitted waits until tasks have committed, and returns their data. On
// timeout, or when the context ends, it returns a *MissingError. A commit by an
// unexpected task is also an error: its pieces would either be counted or be left
// out, and either may be wrong.
//
// Stores do not announce appends, so WaitCommitted polls the control key: after 10
// ms at first and every second in the end, or after ten times as long as a look
// takes.
func WaitCommitted(ctx context.Context, store partd.Partd, o *WaitOptions) (*Committed, error) {
	opts := *cmp.Or(o, new(WaitOptions))
	if opts.Count < 0 || opts.Count > 0 && len(opts.Tasks) > 0 {
		return nil, errors.New("waiting for tasks: give either their names or their number, which must be positive")
	}
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	last := &MissingError{Expected: max(opts.Count, len(opts.Tasks)), Missing: opts.Tasks}
	for wait := firstPoll; ; wait = min(2*wait, maxPoll) {
		began := time.Now()
		c, err := readControl(ctx, store)
		switch {
		case err == nil:
			if last, err = opts.missing(c); err != nil {
				return nil, err
			}
			if last == nil {
				return c.committed(store), nil
			}
		case ctx.Err() == nil:
			return nil, fmt.Errorf("waiting for tasks: %w", err)
		}
		select {
		case <-ctx.Done():
			if last.Err = canceled.Err(ctx); err != nil { // the store may be why
				last.Err = fmt.Errorf("%w; the last look at the store failed: %w", last.Err, err)
			}
			return nil, last
		case <-time.After(max(wait, idleTimes*time.Since(began))):
		}
	}
}

// missing says what has not committed yet, nil if everything has.
func (o *WaitOptions) missing(c *control) (*MissingError, error) {
	m := &MissingError{Committed: len(c.winners)}
	if o.Count > 0 {
		if m.Expected = o.Count; m.Committed > m.Expected {
			return nil, fmt.Errorf("waiting for %d tasks: %d have committed", m.Expected, m.Committed)
		}
		if m.Committed == m.Expected {
			return nil, nil
		}
		return m, nil
	}
	tasks := o.Tasks
	if len(tasks) == 0 {
		tasks, m.Open = c.tasks, !c.closed
	}
	expected := map[string]bool{}
	for _, task := range tasks {
		if _, done := c.index[task]; !done && !expected[task] {
			m.Missing = append(m.Missing, task)
		}
		expected[task] = true
	}
	m.Expected, m.Committed = len(expected), len(expected)-len(m.Missing)
	if len(m.Missing) > 0 || m.Open {
		return m, nil
	}
	if i := slices.IndexFunc(c.winners, func(w Commit) bool { return !expected[w.Task] }); i >= 0 {
		return nil, fmt.Errorf("task %s has committed, but is not one of the %d expected", partd.QuoteKey(c.winners[i].Task), m.Expected)
	}
	return nil, nil
}
