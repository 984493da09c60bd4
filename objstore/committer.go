package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-partd/partd"
)

// committer adds the writer's records to the log, one at a time. mu must be held to commit.
type committer struct {
	*objects
	buffer     *buffer  // holds the pieces to commit
	mu         ctxMutex // guards the fields below; locked before the buffer's lock
	lastSeq    uint64
	nextNumber uint64      // all lower numbers of the log are in use
	commitment *commitment // a commit with unknown outcome, or nil
	brokenErr  error       // set when the bucket has violated the rules of Bucket.Create; the store then stops writing
}

// commit adds a record with the given operation and pieces to the log. mu must be held.
func (cm *committer) commit(ctx context.Context, op operation, pieces []*piece) error {
	if cm.lastSeq == 0 && cm.nextNumber == 0 {
		highest, largest, err := cm.listLog(ctx, "")
		if err != nil {
			return err
		}
		if largest > 0 {
			cm.nextNumber = highest + 1
		}
	}
	r := record{number: cm.nextNumber, op: op, writer: cm.writer, seq: cm.lastSeq + 1}
	c := &commitment{objects: cm.objects, seq: cm.lastSeq + 1, number: cm.nextNumber}
	for _, p := range pieces {
		r.parts = append(r.parts, p.part)
		if !p.part.inline && (c.oldestObject.IsZero() || p.createdAt.Before(c.oldestObject)) {
			c.oldestObject = p.createdAt
		}
	}
	// The pieces of opEntries are the first in buffer.pending; the piece of a SetOnce is not in buffer.pending.
	if op == opEntries {
		c.pieceCount = len(pieces)
	}
	c.data = r.encode(cm.format)
	cm.commitment = c
	return cm.finish(ctx)
}

// finish continues the current commit until it is certain whether the log contains the record. mu
// must be held.
func (cm *committer) finish(ctx context.Context) error {
	if cm.brokenErr != nil {
		return cm.brokenErr
	}
	for c := cm.commitment; c != nil; c = cm.commitment {
		isMine, err := c.attempt(ctx)
		switch {
		case errors.Is(err, errTwoWinners):
			cm.commitment, cm.brokenErr = nil, err
			return err
		case err != nil && !c.isUnknown:
			cm.nextNumber, cm.commitment = c.number, nil // nothing was created, so a later flush can commit the pieces
			return err
		case err != nil:
			return fmt.Errorf("%w: %s: %w", partd.ErrUnknownOutcome, objectPath(cm.bucket, logName(c.number)), err)
		case isMine:
			if err := cm.buffer.forget(ctx, c.pieceCount); err != nil {
				return err
			}
			cm.lastSeq, cm.nextNumber, cm.commitment = cm.lastSeq+1, c.number+1, nil
		}
	}
	return nil
}

// attempt tries to create the object with the record's number and reports whether the log now
// contains the record.
func (c *commitment) attempt(ctx context.Context) (isMine bool, err error) {
	if c.isWaiting() {
		isMine, err = c.isInGroup(ctx)
		if isMine || err != nil {
			return isMine, err
		}
	}
	err = c.createRecord(ctx)
	created := err == nil
	if !created && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	isMine, err = c.readBack(ctx)
	switch {
	case err != nil || isMine && (created || !c.isWaiting()):
		return isMine, err
	case isMine: // another writer has committed the waiting record
		return c.confirmInGroup(ctx)
	case created:
		return false, c.twoWinnersError()
	case c.isWaiting():
		c.number++
		return false, nil
	}
	return false, c.prepareRetry(ctx)
}

// prepareRetry prepares the next attempt after another writer got the number.
func (c *commitment) prepareRetry(ctx context.Context) error {
	// Earlier attempts with this number cannot have succeeded. Clone the data before changing it,
	// because a canceled request may still be reading it.
	c.isUnknown = false
	highest, _, err := c.listLog(ctx, logName(c.number))
	c.number = max(highest, c.number) + 1
	if err != nil {
		return err
	}
	c.data = bytes.Clone(c.data)
	setNumber(c.data, c.number)
	c.losses++
	if c.losses < lossesBeforeWait {
		return pauseBeforeRetry(ctx, min(c.losses, 6))
	}
	return c.startWaiting(ctx)
}

// createRecord creates the log's object c.number. Its content is the record or, if the record is
// waiting, a group that names the record. If the object exists, the error wraps fs.ErrExist.
func (c *commitment) createRecord(ctx context.Context) error {
	return c.retry(ctx, func(ctx context.Context) (err error) {
		data := c.data
		if c.isWaiting() {
			data, err = c.group(ctx)
			if err != nil {
				return err
			}
		}
		start := time.Now()
		err = c.createOnce(ctx, logName(c.number), data)
		c.duration = min(time.Since(start), time.Second)
		return err
	})
}
