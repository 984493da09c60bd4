package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/go-partd/partd"
)

// commitment is a record on its way into the log. It is tried under one number until
// it is certain whether it has that; so it never gets two.
type commitment struct {
	number uint64
	data   []byte
	pieces int           // how many of the pending ones it makes count
	born   time.Time     // of the oldest object of it that may be swept, or zero
	sent   bool          // under this number, with an outcome that is not known
	lost   int           // how many numbers others have got
	took   time.Duration // by the last request for a number

	// Of a record that others may put into the log:
	member  member
	since   time.Time // before it began to wait
	waiting bool      // its object is there
}

// settle brings the record that is on its way to where it is certain that the log has
// it, or has not. committing is held.
func (s *Store) settle(ctx context.Context) error {
	if s.broken != nil {
		return s.broken
	}
	for c := s.doubt; c != nil; c = s.doubt {
		mine, err := s.attempt(ctx, c)
		switch {
		case errors.Is(err, errTwoWinners):
			s.doubt, s.broken = nil, err
			return err
		case err != nil && !c.sent:
			s.doubt = nil // nothing was made, and what it would make count is still pending
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", partd.ErrUnknownOutcome, place(s.bucket, logName(c.number)), err)
		case mine:
			if err := s.committed(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// attempt tries to get the number of a record on its way, and reports whether the log has
// the record then.
func (s *Store) attempt(ctx context.Context, c *commitment) (mine bool, err error) {
	if c.waits() {
		if mine, err = s.named(ctx, c); mine || err != nil {
			return mine, err
		}
	}
	err = s.try(ctx, c)
	made := err == nil
	switch {
	case made && s.opts.hooks.naive412:
		return true, nil
	case !made && !errors.Is(err, fs.ErrExist):
		return false, err
	}
	mine, err = s.readBack(ctx, c)
	switch {
	case err != nil || mine && (made || !c.waits()):
		return mine, err
	case mine: // who got the number has named it
		return s.stillNamed(ctx, c)
	case made:
		return false, s.twoWinners(c)
	case c.waits():
		c.number++
		return false, nil
	}
	return false, s.lose(ctx, c)
}

// twoWinners is the error of a record that was in the log, and is not any more.
func (s *Store) twoWinners(c *commitment) error {
	return fmt.Errorf("%w: %s was made for this writer, and holds another's record: %w",
		partd.ErrUnknownOutcome, place(s.bucket, logName(c.number)), errTwoWinners)
}

// lose has a record try another number than the one that another writer has got, or wait.
func (s *Store) lose(ctx context.Context, c *commitment) (err error) {
	// It can never be ours. The data of a try that was given up may still be read by
	// somebody.
	c.sent = false
	var last uint64
	if !s.opts.hooks.naive412 {
		last, _, err = s.listLog(ctx, logName(c.number))
	}
	if s.number = max(last, c.number) + 1; err != nil {
		return err
	}
	c.number, c.data = s.number, bytes.Clone(c.data)
	setNumber(c.data, c.number)
	switch c.lost++; {
	case s.opts.hooks.naive412:
		return nil
	case c.lost < lossesAlone || s.opts.hooks.alone:
		return pause(ctx, min(c.lost, 6))
	}
	return s.wait(ctx, c)
}

// committed notes that the log has a record.
func (s *Store) committed(ctx context.Context, c *commitment) error {
	if err := s.mu.lock(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer s.mu.unlock()
	s.seq, s.number, s.doubt = s.seq+1, c.number+1, nil
	s.pending = slices.Delete(s.pending, 0, c.pieces)
	s.crowded.Store(len(s.pending) >= s.maxPending())
	return nil
}

// try makes the object of a record's number, or finds that there is one.
func (s *Store) try(ctx context.Context, c *commitment) error {
	return s.retry(ctx, func(ctx context.Context) (err error) {
		data := c.data
		if c.waits() {
			if data, err = s.group(ctx, c); err != nil {
				return err
			}
		}
		began := time.Now()
		err = s.createOnce(ctx, c, logName(c.number), data)
		c.took = min(time.Since(began), time.Second)
		return err
	})
}

// createOnce asks for an object that makes a record count, or may do so.
func (s *Store) createOnce(ctx context.Context, c *commitment, name string, data []byte) error {
	if age := age(c.born) + s.opts.hooks.segmentAge; !c.born.IsZero() && age > sweepAge/2 {
		return fmt.Errorf("%w: %w: it was appended %v ago, without a flush; open the store again and append it again",
			ErrRefused, errTooOld, age.Round(time.Minute))
	}
	err := s.bucket.Create(ctx, name, data)
	if conflict := s.opts.hooks.conflict; conflict != nil && conflict(err) {
		return fs.ErrExist
	}
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
	case !definite(err):
		c.sent = true
	default: // the bucket says that nothing was made: a record that is there all the same counts
		_, lookErr := s.readPart(ctx, name, 0, 1)
		if lookErr == nil {
			return fs.ErrExist
		}
		c.sent = c.sent || !errors.Is(lookErr, fs.ErrNotExist)
	}
	return err
}

// errTooOld is of what will never count.
var errTooOld = errors.New("what was appended may be swept before it counts")

// readBack reports whether the object of a number, which is there, has the record on its
// way. Where there was one already, an earlier try may have made it. Where this try made
// it, a bucket that checks first and then writes may have let another writer make it, too.
func (s *Store) readBack(ctx context.Context, c *commitment) (mine bool, err error) {
	if s.opts.hooks.naive412 {
		return false, nil
	}
	c.sent = true // until it is known
	err = s.retry(ctx, func(ctx context.Context) error {
		mine, err = s.holds(ctx, c)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists, but cannot be read yet", place(s.bucket, logName(c.number))) // which proves nothing
		}
		return err
	})
	return mine, err
}

// holds reads whether the object of a number has the record on its way.
func (s *Store) holds(ctx context.Context, c *commitment) (bool, error) {
	most := int64(recordHeadLen)
	if c.waits() {
		most += maxMembers * memberLen
	}
	b, err := s.readPart(ctx, logName(c.number), 0, most)
	if err != nil {
		return false, err
	}
	r, err := parseRecordHead(s.format, c.number, b)
	if err == nil && r.op == opGroup && c.waits() {
		r, err = parseRecord(s.format, c.number, b)
	}
	if err != nil {
		return false, corrupt(place(s.bucket, logName(c.number)), err)
	}
	if r.op == opGroup {
		return slices.ContainsFunc(r.members, func(m member) bool { return m.writer == s.writer && m.seq == s.seq+1 }), nil
	}
	return r.writer == s.writer && r.seq == s.seq+1, nil
}
