package objstore

import (
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
	*objects
	seq          uint64 // position among the writer's records
	number       uint64 // number in the log that the next attempt uses
	data         []byte
	pieceCount   int           // the record commits the first pieceCount pieces of buffer.pending
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

// isWaiting reports whether startWaiting was called for the record.
func (c *commitment) isWaiting() bool { return c.member.seq > 0 }

// twoWinnersError returns the error for a log object that contained c's record until another writer
// replaced it.
func (c *commitment) twoWinnersError() error {
	return fmt.Errorf("%w: %s contained this writer's record, but now contains another writer's: %w",
		partd.ErrUnknownOutcome, objectPath(c.bucket, logName(c.number)), errTwoWinners)
}

// createOnce makes one request to create an object and updates c.isUnknown.
func (c *commitment) createOnce(ctx context.Context, name string, data []byte) error {
	if age := age(c.oldestObject) + c.opts.hooks.segmentAge; !c.oldestObject.IsZero() && age > sweepAge/2 {
		return fmt.Errorf("%w: %w: the data was appended %v ago and never flushed: "+
			"reopen the store and append the data again", ErrRefused, errTooOld, age.Round(time.Minute))
	}
	err := c.bucket.Create(ctx, name, data)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
	case !isOutcomeKnown(err):
		c.isUnknown = true
	default: // the bucket refused the request, but the object may exist nonetheless
		_, readErr := c.readPart(ctx, name, 0, 1)
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
func (c *commitment) readBack(ctx context.Context) (isMine bool, err error) {
	c.isUnknown = true // unknown until the object is read
	err = c.retry(ctx, func(ctx context.Context) error {
		isMine, err = c.holdsRecord(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists, but cannot be read yet", objectPath(c.bucket, logName(c.number)))
		}
		return err
	})
	return isMine, err
}

// holdsRecord makes one request and reports whether the log's object c.number is c's record or a
// group that names c's record.
func (c *commitment) holdsRecord(ctx context.Context) (bool, error) {
	limit := int64(recordHeadLen)
	if c.isWaiting() {
		limit += maxMembers * memberLen
	}
	b, err := c.readPart(ctx, logName(c.number), 0, limit)
	if err != nil {
		return false, err
	}
	r, err := parseRecordHead(c.format, c.number, b)
	if err == nil && r.op == opGroup && c.isWaiting() {
		r, err = parseRecord(c.format, c.number, b)
	}
	if err != nil {
		return false, corrupt(objectPath(c.bucket, logName(c.number)), err)
	}
	if r.op == opGroup {
		return slices.ContainsFunc(r.members, func(m member) bool { return m.writer == c.writer && m.seq == c.seq }), nil
	}
	return r.writer == c.writer && r.seq == c.seq, nil
}

// age returns the time since t. It uses two clocks, because the monotonic clock can stop while the
// machine sleeps, and the wall clock can be set back.
func age(t time.Time) time.Duration { return max(time.Since(t), time.Since(t.Round(0))) }
