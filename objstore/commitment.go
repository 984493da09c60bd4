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

// commitment is a record that is being committed. Each attempt tries to create the log's object with
// the next number. While the outcome of an attempt is unknown, further attempts use the same number,
// so that the log never contains the record twice.
type commitment struct {
	number       uint64 // number in the log that the next attempt uses
	data         []byte
	pieceCount   int           // the record commits the first pieceCount pieces of Store.pending
	oldestObject time.Time     // creation time of the record's oldest object that Sweep may delete, or zero
	isUnknown    bool          // a request with this number has an unknown outcome
	losses       int           // number of attempts that failed because another writer got the number
	duration     time.Duration // duration of the last attempt

	// The fields below are for waiting records (see wait.go), which are in separate objects, so that
	// other writers can commit them too.
	member       member
	waitingSince time.Time
	hasObject    bool // the separate object exists
}

// finishCommit continues the current commit, until it is certain whether the log contains the
// record. commitMu must be held.
func (s *Store) finishCommit(ctx context.Context) error {
	if s.brokenErr != nil {
		return s.brokenErr
	}
	for c := s.commitment; c != nil; c = s.commitment {
		isMine, err := s.attempt(ctx, c)
		switch {
		case errors.Is(err, errTwoWinners):
			s.commitment, s.brokenErr = nil, err
			return err
		case err != nil && !c.isUnknown:
			s.commitment = nil // nothing was created, so a later flush can commit the pieces
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", partd.ErrUnknownOutcome, objectPath(s.bucket, logName(c.number)), err)
		case isMine:
			if err := s.recordCommit(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// attempt tries to create the object with the record's number, and reports whether the log now
// contains the record.
func (s *Store) attempt(ctx context.Context, c *commitment) (isMine bool, err error) {
	if c.isWaiting() {
		if isMine, err = s.isInGroup(ctx, c); isMine || err != nil {
			return isMine, err
		}
	}
	err = s.createRecord(ctx, c)
	created := err == nil
	if !created && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	isMine, err = s.readBack(ctx, c)
	switch {
	case err != nil || isMine && (created || !c.isWaiting()):
		return isMine, err
	case isMine: // another writer has committed the waiting record
		return s.confirmInGroup(ctx, c)
	case created:
		return false, s.twoWinnersError(c)
	case c.isWaiting():
		c.number++
		return false, nil
	}
	return false, s.prepareRetry(ctx, c)
}

// twoWinnersError returns the error for a log object that contained the record of c, and that
// another writer then replaced.
func (s *Store) twoWinnersError(c *commitment) error {
	return fmt.Errorf("%w: %s contained this writer's record, and now contains another writer's: %w",
		partd.ErrUnknownOutcome, objectPath(s.bucket, logName(c.number)), errTwoWinners)
}

// prepareRetry prepares the next attempt after another writer got the number.
func (s *Store) prepareRetry(ctx context.Context, c *commitment) error {
	// Earlier attempts with this number cannot have succeeded. Clone the data before changing it,
	// because a canceled request may still be reading it.
	c.isUnknown = false
	highest, _, err := s.listLog(ctx, logName(c.number))
	if s.nextNumber = max(highest, c.number) + 1; err != nil {
		return err
	}
	c.number, c.data = s.nextNumber, bytes.Clone(c.data)
	setNumber(c.data, c.number)
	if c.losses++; c.losses < lossesBeforeWait {
		return pauseBeforeRetry(ctx, min(c.losses, 6))
	}
	return s.startWaiting(ctx, c)
}

// recordCommit updates the store after the record was committed.
func (s *Store) recordCommit(ctx context.Context, c *commitment) error {
	if err := s.mu.lock(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer s.mu.unlock()
	s.lastSeq, s.nextNumber, s.commitment = s.lastSeq+1, c.number+1, nil
	s.pending = slices.Delete(s.pending, 0, c.pieceCount)
	s.pendingFull.Store(len(s.pending) >= s.maxPending())
	return nil
}

// createRecord creates the log's object c.number. Its content is the record or, if the record is
// waiting, a group that names the record. If the object exists, the error wraps fs.ErrExist.
func (s *Store) createRecord(ctx context.Context, c *commitment) error {
	return s.retry(ctx, func(ctx context.Context) (err error) {
		data := c.data
		if c.isWaiting() {
			if data, err = s.group(ctx, c); err != nil {
				return err
			}
		}
		start := time.Now()
		err = s.createOnce(ctx, c, logName(c.number), data)
		c.duration = min(time.Since(start), time.Second)
		return err
	})
}

// createOnce makes one request to create an object, and updates c.isUnknown.
func (s *Store) createOnce(ctx context.Context, c *commitment, name string, data []byte) error {
	if age := age(c.oldestObject) + s.opts.hooks.segmentAge; !c.oldestObject.IsZero() && age > sweepAge/2 {
		return fmt.Errorf("%w: %w: the data was appended %v ago and never flushed: reopen the store and append the data again",
			ErrRefused, errTooOld, age.Round(time.Minute))
	}
	err := s.bucket.Create(ctx, name, data)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
	case !isDefinite(err):
		c.isUnknown = true
	default: // the bucket refused the request, but check whether the object exists nonetheless
		_, readErr := s.readPart(ctx, name, 0, 1)
		if readErr == nil {
			return fs.ErrExist
		}
		c.isUnknown = c.isUnknown || !errors.Is(readErr, fs.ErrNotExist)
	}
	return err
}

// errTooOld means that a record must not be committed, because Sweep may delete its segments.
var errTooOld = errors.New("Sweep may delete the appended data before it is committed")

// readBack reports whether the log's object c.number contains c's record. Reading is necessary if
// creation failed because the object exists: an earlier attempt may have created it. It is also
// necessary after successful creation, because a faulty bucket may let another writer replace the object.
func (s *Store) readBack(ctx context.Context, c *commitment) (isMine bool, err error) {
	c.isUnknown = true // unknown until the object is read
	err = s.retry(ctx, func(ctx context.Context) error {
		isMine, err = s.holdsRecord(ctx, c)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists, but cannot be read yet", objectPath(s.bucket, logName(c.number)))
		}
		return err
	})
	return isMine, err
}

// holdsRecord makes one request, and reports whether the log's object c.number is c's record, or a
// group that names c's record.
func (s *Store) holdsRecord(ctx context.Context, c *commitment) (bool, error) {
	limit := int64(recordHeadLen)
	if c.isWaiting() {
		limit += maxMembers * memberLen
	}
	b, err := s.readPart(ctx, logName(c.number), 0, limit)
	if err != nil {
		return false, err
	}
	r, err := parseRecordHead(s.format, c.number, b)
	if err == nil && r.op == opGroup && c.isWaiting() {
		r, err = parseRecord(s.format, c.number, b)
	}
	if err != nil {
		return false, corrupt(objectPath(s.bucket, logName(c.number)), err)
	}
	if r.op == opGroup {
		return slices.ContainsFunc(r.members, func(m member) bool { return m.writer == s.writer && m.seq == s.lastSeq+1 }), nil
	}
	return r.writer == s.writer && r.seq == s.lastSeq+1, nil
}
