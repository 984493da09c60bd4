package tail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Receipt identifies an append that readers can see, but that may not be durable yet; see Sync.
type Receipt struct {
	log   *Log // nil if nothing was appended
	epoch *epoch
	pos   uint64 // the append's number, counted over all of the Store's tables
}

// Append adds frames with the same schema to the log. Their time is timestamp or the time of the previous frame,
// whichever is later. If the outcome is unknown, the next call to one of the log's methods reads the store again.
func (l *Log) Append(ctx context.Context, frames []Frame, timestamp time.Time) (receipt Receipt, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return receipt, err
	}
	if l.updated.After(timestamp) { // the clock was set back
		timestamp = l.updated
	}
	var e *epoch
	schema := frames[0].schema
	if n := len(l.epochs); n > 0 && l.epochs[n-1].number == l.current {
		e = l.epochs[n-1]
		if e.schema != schema && !e.schema.Equal(schema) {
			e = nil
			l.current++ // an epoch can have only one schema
		}
	}
	isFirst := e == nil
	if isFirst {
		e = l.epoch(l.current)
		e.schema, e.oldest = schema, timestamp
	}
	v, err := frames[0].bytes(isFirst, timestamp)
	if err != nil {
		return receipt, err
	}
	for _, f := range frames[1:] {
		encoded, err := f.bytes(false, timestamp)
		if err != nil {
			return receipt, err
		}
		v = append(v, encoded...)
	}
	err = parallel.Catch(func() error { return l.s.note(l.s.p.Append(ctx, partd.Entry{Key: e.key, Value: v})) })
	if errors.As(err, new(*parallel.Panic)) { // the store may have the frames
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	isUnknown := errors.Is(err, partd.ErrUnknownOutcome)
	if err != nil && !isUnknown {
		return receipt, err
	}
	if isFirst {
		l.epochs = append(l.epochs, e)
	}
	if isUnknown {
		e.stale, l.hasUnknown = true, true
		return receipt, err
	}
	l.pos = l.s.written.Add(1)
	for len(v) > 0 && err == nil {
		var parsed frame
		length := len(v)
		parsed, v, err = nextFrame(v)
		if err == nil {
			err = l.add(e, parsed, int64(length-len(v)))
		}
	}
	if err != nil { // the store already contains the frame
		e.stale = true
		return receipt, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	e.schema = schema
	return Receipt{l, e, l.pos}, nil
}

// Sync waits until the append is durable. It returns at once if the tail was opened without syncing. If the sync fails,
// the append's outcome is unknown.
func (a Receipt) Sync(ctx context.Context) error {
	if a.log == nil {
		return nil
	}
	err := a.log.s.waitDurable(ctx, a.pos)
	if err == nil {
		return nil
	}
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	a.epoch.stale, a.log.hasUnknown = true, true
	return withUnknownOutcome(err)
}

// waitDurable waits until all appends up to number pos are durable. It returns at once if the tail does not sync.
func (s *Store) waitDurable(ctx context.Context, pos uint64) error {
	if !s.sync {
		return nil
	}
	return s.syncs.Wait(ctx, pos, func(ctx context.Context) (uint64, error) {
		upTo := s.written.Load() // the sync may not include later appends
		return upTo, s.note(partd.Sync(ctx, s.p))
	})
}

// Applied reports whether the log contains an append with this ID. Like Sync, it waits until the append is durable.
func (l *Log) Applied(ctx context.Context, id string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil {
		return false, err
	}
	if !l.hasID(id) {
		return false, nil
	}
	return true, withUnknownOutcome(l.s.waitDurable(ctx, l.pos)) // the append's own sync may still be running or have failed
}

// withUnknownOutcome adds ErrUnknownOutcome to a sync's error, because a power failure can lose appends that readers already
// see.
func withUnknownOutcome(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
}

func (l *Log) hasID(id string) bool {
	_, isVoid := l.voidIDs[id]
	return isVoid || slices.ContainsFunc(l.epochs, func(e *epoch) bool { return e.hasID(id) })
}

func (e *epoch) hasID(id string) bool {
	_, ok := e.ids[id]
	return ok
}

// Void makes the log ignore the rows of the puts with the given IDs: another process has already added them to the
// table.
func (l *Log) Void(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		for _, e := range l.epochs {
			e.stale = e.stale || e.hasID(id)
		}
		l.voidIDs[id] = struct{}{}
	}
}

// IDs returns the IDs and times of the appends in the epochs numbered from after+1 to upTo.
func (l *Log) IDs(after, upTo int64) map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]time.Time{}
	for e := range l.epochsIn(after, upTo) {
		maps.Copy(ids, e.ids)
	}
	return ids
}

// IsEmpty reports whether no epoch has rows.
func (l *Log) IsEmpty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.epochs) == 0
}

// EndEpoch ends the current epoch and returns the number of the last epoch with rows. ok is false if no epoch has rows.
func (l *Log) EndEpoch(ctx context.Context) (last int64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx); err != nil || len(l.epochs) == 0 {
		return 0, false, err
	}
	last = l.epochs[len(l.epochs)-1].number
	l.current = last + 1
	return last, true, nil
}
