package shuffle

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/nostore"
)

// MaxTaskName is the maximum length of the name of a task or an attempt, in
// bytes.
const MaxTaskName = 1024

// ErrCommitted is wrapped by the error of [Begin] for a task that has already
// committed.
var ErrCommitted = errors.New("the task has committed already")

// Writer is one attempt at a task. A task writes a part of the data that many
// processes write to one store. Nothing that an attempt appends counts before its
// Commit, and of several attempts at a task only the first to commit counts. So you
// can restart a dead worker as another attempt, and let a second attempt overtake a
// slow one. [ReadCommitted] and [WaitCommitted] read the committed data.
//
// Only Writers may write to the store, which needs no more than Append and Get. A
// Writer is safe for concurrent use; appends take turns. docs/format.md describes
// the bytes.
type Writer struct {
	Task, Attempt string

	store partd.Partd

	mu      sync.Mutex // held while the store is called, so that batches arrive in the order of their numbers
	batches uint64     // that are in the store
	count   ledger.Count
	buf     []byte
	ends    []int
	entries []partd.Entry
	broken  error // why there can be no more batches
	done    bool  // committed
}

// Begin begins an attempt at a task. Any text can name the task and the attempt,
// but no two attempts at a task may ever have the same name: "" generates one. If
// there is nothing left to do, the error wraps [ErrCommitted].
func Begin(ctx context.Context, store partd.Partd, task, attempt string) (*Writer, error) {
	attempt = cmp.Or(attempt, rand.Text())
	if err := checkName("task", task); err != nil {
		return nil, err
	}
	if err := checkName("attempt", attempt); err != nil {
		return nil, err
	}
	err := readFrames(ctx, store, ControlKey, func(kind byte, rest []byte) error {
		if kind != frameCommit {
			return nil
		}
		name, rest, err := cut(rest)
		if err != nil || string(name) != task {
			return err
		}
		winner, _, err := cut(rest)
		return errors.Join(err, fmt.Errorf("%s: %w", attemptText(task, string(winner)), ErrCommitted))
	})
	if err != nil {
		return nil, err
	}
	return &Writer{Task: task, Attempt: attempt, store: store}, nil
}

func checkName(what, name string) error {
	if name == "" || len(name) > MaxTaskName {
		return fmt.Errorf("the name of a %s has 1 to %d bytes, not %d", what, MaxTaskName, len(name))
	}
	return nil
}

// attemptText names an attempt in an error, which a long name must not fill.
func attemptText(task, attempt string) string {
	return fmt.Sprintf("task %s, attempt %s", partd.QuoteKey(task), partd.QuoteKey(attempt))
}

// Append adds pieces to keys, as one batch: all of them or none. An empty piece
// also counts as a piece. If the store cannot tell whether it took the batch,
// Append sends it again, and readers skip duplicates. If the error still wraps
// [partd.ErrUnknownOutcome], the attempt is over; after any other error you can
// call Append again.
func (w *Writer) Append(ctx context.Context, entries ...partd.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	if len(entries) == 0 {
		return nil
	}
	w.buf, w.ends, w.entries = w.buf[:0], w.ends[:0], w.entries[:0]
	count := w.count
	var hashed []byte
	for i, e := range entries {
		w.buf = appendPiece(w.buf, w.Task, w.Attempt, w.batches+1, uint64(i), e.Value)
		w.ends = append(w.ends, len(w.buf))
		hashed = appendHashed(hashed[:0], e.Key, e.Value)
		countPiece(&count, hashed, len(e.Value))
	}
	from := 0
	for i, end := range w.ends { // buf moves no more
		w.entries = append(w.entries, partd.Entry{Key: entries[i].Key, Value: w.buf[from:end:end]})
		from = end
	}
	err := appendSurely(ctx, w.store, w.entries...)
	clear(w.entries)
	if cap(w.buf) > maxKeptBatch {
		w.buf = nil
	}
	if err != nil {
		err = fmt.Errorf("%s, batch %d: %w", attemptText(w.Task, w.Attempt), w.batches+1, err)
		if errors.Is(err, partd.ErrUnknownOutcome) {
			w.broken = fmt.Errorf("%w: begin another attempt", err)
		}
		return err
	}
	w.batches++
	w.count = count
	return nil
}

// maxKeptBatch is how many bytes of memory a writer keeps between batches.
const maxKeptBatch = 4 << 20

// Commit makes everything appended so far count, unless another attempt has
// committed first. After an error you can call it again.
func (w *Writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return fmt.Errorf("%s: it has committed: %w", attemptText(w.Task, w.Attempt), ErrClosed)
	}
	if errors.Is(w.broken, partd.ErrUnknownOutcome) {
		return w.broken
	}
	record := Commit{Task: w.Task, Attempt: w.Attempt, Batches: w.batches, Share: shareOf(w.count)}
	// From here on the record may be there: more batches would make it a lie.
	w.broken = fmt.Errorf("%s: it has committed, or tried to: %w", attemptText(w.Task, w.Attempt), ErrClosed)
	if err := announce(ctx, w.store, appendCommit(nil, record)); err != nil {
		return fmt.Errorf("committing %s: %w", attemptText(w.Task, w.Attempt), err)
	}
	w.done = true
	return nil
}

// announce appends a frame to the control key, once all before it is where other
// processes see it, and sees to it that the frame is, too.
func announce(ctx context.Context, store partd.Partd, frame []byte) error {
	if err := flush(ctx, store); err != nil {
		return err
	}
	if err := appendSurely(ctx, store, partd.Entry{Key: ControlKey, Value: frame}); err != nil {
		return err
	}
	return flush(ctx, store)
}

// flush moves what a store holds back to where other processes see it, where it
// does hold something back.
func flush(ctx context.Context, store partd.Partd) error {
	if err := partd.Flush(ctx, store); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

const (
	maxTries  = 5
	firstWait = 50 * time.Millisecond
)

// appendSurely appends, and does so again as long as the store cannot tell whether
// it did. What is appended must bear being there twice.
func appendSurely(ctx context.Context, store partd.Partd, entries ...partd.Entry) error {
	var unknown error
	for try := 1; ; try++ {
		err := nostore.Or(store).Append(ctx, entries...)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, partd.ErrUnknownOutcome):
			return errors.Join(err, unknown) // an earlier try may have made it
		}
		unknown = err
		if try == maxTries {
			return unknown
		}
		select {
		case <-ctx.Done():
			return unknown
		case <-time.After(firstWait << (try - 1)):
		}
	}
}
