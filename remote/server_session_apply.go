package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// apply applies an operation of a session once. An error that wraps errGivenUp
// must end the connection: nobody waits for its answer.
func (s *sessions) apply(ctx context.Context, c *conn, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if tag.Number == 0 {
		return false, fmt.Errorf("%w: operations of a session are numbered from 1", ErrBadRequest)
	}
	x := c.used[tag.Session]
	if x == nil {
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	}
	s.use(x)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.owner > c.id {
		return false, errGivenUp
	}
	x.owner = c.id
	if s.unnumbered {
		return true, change(ctx, s.store, op)
	}
	if x.mine {
		return x.apply(ctx, s, tag, op)
	}
	a, ok := s.store.(partd.Applier)
	if !ok {
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	}
	applied, err = a.Apply(ctx, tag, op)
	if errors.Is(err, partd.ErrSessionExpired) {
		s.forget(c, x)
	}
	return applied, err
}

// use notes that something of a session is applied.
func (s *sessions) use(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !x.used {
		x.used = true
		s.place(x)
	}
}

// apply is for sessions that the server issued. mu is held.
func (x *session) apply(ctx context.Context, s *sessions, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	s.mu.Lock()
	forgotten := s.table[x.id] != x
	s.mu.Unlock()
	switch {
	case forgotten:
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	case tag.Number > x.high && x.unknown != nil:
		// Applied behind it, this would turn its unknown outcome into a known one.
		return false, fmt.Errorf("session %d: operation %d came after %d, whose outcome is unknown: %w", tag.Session, tag.Number, x.high, partd.ErrSessionGap)
	case tag.Number > x.high+1:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", tag.Session, tag.Number, x.high, partd.ErrSessionGap)
	case tag.Number == x.high && tag.CRC != x.crc:
		return false, fmt.Errorf("session %d, operation %d: %w", tag.Session, tag.Number, partd.ErrSessionReused)
	case tag.Number == x.high:
		return false, x.unknown
	case tag.Number < x.high:
		return false, nil
	}
	err = change(ctx, s.store, op)
	if err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		x.high, x.crc, x.unknown = tag.Number, tag.CRC, err
	}
	return err == nil, err
}

// change makes a change without a number.
func change(ctx context.Context, store partd.Partd, op partd.Operation) error {
	switch op.Change {
	case partd.ChangeAppend:
		return store.Append(ctx, op.Entries...)
	case partd.ChangeSet:
		return partd.Set(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeSetOnce:
		return partd.SetOnce(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeDelete:
		return partd.Delete(ctx, store, op.Keys...)
	case partd.ChangeDrop:
		return store.Drop(ctx)
	}
	return fmt.Errorf("%w: change %d", ErrBadRequest, op.Change)
}
