package tail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd"
)

// Append adds rows, under an id if it is not "". It returns once the store has
// acknowledged them. Where the outcome is unknown, the store is asked for it
// before the log is used again.
func (l *Log) Append(ctx context.Context, schema *arrow.Schema, batches []arrow.RecordBatch, id string, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return err
	}
	var e *epoch
	if n := len(l.epochs); n > 0 && l.epochs[n-1].n == l.next {
		if e = l.epochs[n-1]; e.encoder == nil || e.schema != schema && !e.schema.Equal(schema) {
			e = nil
			l.next++ // the table's schema is another one now, or an append was refused
		}
	}
	first := e == nil
	if first {
		e = l.epoch(l.next)
		e.schema, e.since, e.encoder = schema, at, &encoder{}
		e.encoder.w = ipc.NewWriterWithPayloadWriter(e.encoder, ipc.WithSchema(schema))
	}
	v, err := e.encoder.encode(batches, id, at)
	if err != nil {
		e.encoder = nil // its writer may write no more
		return err
	}
	err = l.s.p.Append(ctx, partd.Entry{Key: e.key, Value: v})
	if err == nil && l.s.sync {
		if err = partd.Sync(ctx, l.s.p); err != nil {
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	}
	unknown := errors.Is(err, partd.ErrUnknownOutcome)
	if err != nil && !unknown {
		return err
	}
	if first {
		l.epochs = append(l.epochs, e)
	}
	if unknown {
		e.stale, l.unsure = true, true
		return err
	}
	f, _, err := next(v)
	if err == nil {
		err = l.add(e, f, int64(len(v)))
	}
	if err != nil { // it is in the store all the same
		e.stale = true
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	e.schema = schema
	return nil
}

// refresh reads what the store has of epochs with an append of unknown outcome.
func (l *Log) refresh(ctx context.Context) error {
	for i := 0; i < len(l.epochs); i++ {
		e := l.epochs[i]
		if !e.stale {
			continue
		}
		if err := l.load(ctx, e); err != nil {
			return err
		}
		l.next = max(l.next, e.n+1) // what may still arrive must not fall among new rows
		if e.bytes == 0 {
			l.epochs = slices.Delete(l.epochs, i, i+1)
			i--
		}
	}
	return nil
}

// Applied reports whether the log has an append of an id.
func (l *Log) Applied(ctx context.Context, id string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return false, err
	}
	if !l.has(id) {
		return false, nil
	}
	if l.unsure { // it may be that its sync failed
		return true, l.s.Flush(ctx)
	}
	return true, nil
}

func (l *Log) has(id string) bool {
	_, void := l.void[id]
	return void || slices.ContainsFunc(l.epochs, func(e *epoch) bool { return e.has(id) })
}

func (e *epoch) has(id string) bool {
	_, ok := e.ids[id]
	return ok
}

// Void takes out the rows of puts that somebody else applied to the table.
func (l *Log) Void(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		for _, e := range l.epochs {
			e.stale = e.stale || e.has(id)
		}
		l.void[id] = struct{}{}
	}
}

// IDs returns the ids of the appends of the epochs after one, up to another,
// with their times.
func (l *Log) IDs(after, upTo int64) map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]time.Time{}
	for _, e := range l.epochs {
		if e.n > after && e.n <= upTo {
			maps.Copy(ids, e.ids)
		}
	}
	return ids
}

// Turn ends the epoch that appends go to, and returns the last one that has
// rows; ok is false if there are none.
func (l *Log) Turn(ctx context.Context) (last int64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil || len(l.epochs) == 0 {
		return 0, false, err
	}
	last = l.epochs[len(l.epochs)-1].n
	l.next = last + 1
	return last, true, nil
}
