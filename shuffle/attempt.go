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
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/layer"
	"github.com/go-partd/partd/storekit"
)

// maxTaskName is the maximum length of the name of a task or an attempt, in bytes.
const maxTaskName = 1024

// Writer is one attempt at a task. A task writes a part of the data that many processes write to
// one store. An attempt's data counts only after its Commit, and only if no other attempt at
// the task committed first. So you can restart a dead worker as another attempt, or start a
// second attempt while a slow one is still running. [ReadCommitted] and [WaitCommitted] read
// the committed data.
//
// Only Writers may write to the store. The store needs only Append and Get. A Writer is safe for
// concurrent use, but its appends wait for each other. docs/dev/format.md describes the stored bytes.
type Writer struct {
	Task, Attempt string

	store partd.Partd

	mu        sync.Mutex // also held during calls to the store, so that batches arrive in order of their numbers
	batches   uint64     // number of batches in the store
	count     ledger.Count
	buf       []byte
	entries   []partd.Entry
	brokenErr error // error for further batches; nil if Append accepts them
	committed bool
}

// Begin begins an attempt at a task. The names can be any text of 1 to 1,024 bytes, but all
// attempts at a task must have different names. If attempt is "", Begin generates a unique name. If the task has
// already committed, the error wraps [ErrCommitted].
func Begin(ctx context.Context, store partd.Partd, task, attempt string) (*Writer, error) {
	attempt = cmp.Or(attempt, rand.Text())
	if err := checkName("task", task); err != nil {
		return nil, err
	}
	if err := checkName("attempt", attempt); err != nil {
		return nil, err
	}
	err := readFrames(ctx, store, controlKey, func(kind byte, rest []byte) error {
		if kind != frameCommit {
			return nil
		}
		name, rest, err := cut(rest)
		if err != nil || string(name) != task {
			return err
		}
		winner, _, err := cut(rest)
		return errors.Join(err, errorf("%s: %w", attemptText(task, string(winner)), ErrCommitted))
	})
	if err != nil {
		return nil, err
	}
	return &Writer{Task: task, Attempt: attempt, store: store}, nil
}

func checkName(subject, name string) error {
	if name == "" || len(name) > maxTaskName {
		return argumentErrorf("the name of the %s has %d bytes: use 1 to %d", subject, len(name), maxTaskName)
	}
	return nil
}

// attemptText describes an attempt for errors. It shortens long names.
func attemptText(task, attempt string) string {
	return fmt.Sprintf("task %s, attempt %s", storekit.QuoteKey(task), storekit.QuoteKey(attempt))
}

// Append appends pieces (the entries' values, which may be empty) to keys. The pieces are one
// batch, which is applied completely or not at all. If it is unknown whether the store applied
// the batch, Append sends it again, and readers skip duplicates. If the error wraps
// [partd.ErrUnknownOutcome], the attempt cannot continue. After any other error, you can call
// Append again.
func (w *Writer) Append(ctx context.Context, entries ...partd.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.brokenErr != nil {
		return w.brokenErr
	}
	if len(entries) == 0 {
		return nil
	}
	w.entries = w.entries[:0]
	size := len(entries) * (maxPieceHeader + len(w.Task) + len(w.Attempt))
	for i := range entries {
		size += len(entries[i].Value)
	}
	if cap(w.buf) < size {
		w.buf = make([]byte, 0, size)
	}
	w.buf = w.buf[:0]
	count := w.count
	var hashed []byte
	for i, e := range entries {
		from := len(w.buf)
		w.buf = appendPiece(w.buf, w.Task, w.Attempt, w.batches+1, uint64(i), e.Value)
		w.entries = append(w.entries, partd.Entry{Key: e.Key, Value: w.buf[from:len(w.buf):len(w.buf)]})
		hashed = appendHashed(hashed[:0], e.Key, e.Value)
		countPiece(&count, hashed, len(e.Value))
	}
	err := appendRetrying(ctx, w.store, w.entries...)
	clear(w.entries)
	if cap(w.buf) > maxReusedBuffer {
		w.buf = nil
	}
	if err != nil {
		err = errorf("%s, batch %d: %w", attemptText(w.Task, w.Attempt), w.batches+1, err)
		if errors.Is(err, partd.ErrUnknownOutcome) {
			w.brokenErr = fmt.Errorf("%w: this attempt cannot continue: begin another attempt", err)
		}
		return err
	}
	w.batches++
	w.count = count
	return nil
}

// maxReusedBuffer is the maximum size, in bytes, of a buffer to keep for the next batch.
const maxReusedBuffer = 8 << 20

// Commit makes all appended pieces count, unless another attempt at the task has already
// committed. If Commit fails, you can call it again.
func (w *Writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.committed {
		return errorf("%s: already committed: %w", attemptText(w.Task, w.Attempt), ErrClosed)
	}
	if errors.Is(w.brokenErr, partd.ErrUnknownOutcome) {
		return w.brokenErr
	}
	record := Commit{Task: w.Task, Attempt: w.Attempt, Batches: w.batches, Checksum: checksumOf(w.count)}
	// The commit may reach the store even if announce fails, so reject further batches.
	w.brokenErr = errorf("%s: a commit was already tried: %w", attemptText(w.Task, w.Attempt), ErrClosed)
	if err := announce(ctx, w.store, appendCommit(nil, record)); err != nil {
		return errorf("committing %s: %w", attemptText(w.Task, w.Attempt), err)
	}
	w.committed = true
	w.buf, w.entries = nil, nil
	return nil
}

// announce appends a frame to the control key. When it returns, other processes can see the frame
// and everything appended before the frame.
func announce(ctx context.Context, store partd.Partd, frame []byte) error {
	if err := flushStore(ctx, store); err != nil {
		return err
	}
	if err := appendRetrying(ctx, store, partd.Entry{Key: controlKey, Value: frame}); err != nil {
		return err
	}
	return flushStore(ctx, store)
}

// flushStore makes buffered appends visible to other processes. It does nothing if the store
// has no buffer.
func flushStore(ctx context.Context, store partd.Partd) error {
	if err := partd.Flush(ctx, store); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

const (
	maxTries  = 5
	firstWait = 50 * time.Millisecond
)

// appendRetrying appends entries and retries while the outcome is unknown. Readers must
// ignore duplicates of the entries.
func appendRetrying(ctx context.Context, store partd.Partd, entries ...partd.Entry) error {
	var outcomeErr error
	for try := 1; ; try++ {
		err := layer.StoreOrFailing(store).Append(ctx, entries...)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, partd.ErrUnknownOutcome):
			return errors.Join(err, outcomeErr) // an earlier try may have succeeded
		}
		outcomeErr = err
		if try == maxTries || canceled.Wait(ctx, time.After(firstWait<<(try-1))) != nil {
			return outcomeErr
		}
	}
}
