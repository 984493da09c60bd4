package objstore

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Writers compete to create the log's object with the next number. After several lost attempts, a
// writer creates a waiting record: it writes the record to an object outside the log. Then it tries
// to create a group in the log, which names the waiting records of all writers. Therefore, even many
// concurrent flushes need only a few numbers.
//
// Several groups may name the same record: readers apply it at the first group and ignore it in
// later ones. A group does not contain copies of the records, because one request must be able to
// create it, and a record may contain 4 MiB of footers. A separate log for each writer would not
// work, because separate logs would not order the Sets, Deletes and Drops of different writers.

const (
	// A writer creates a waiting record after lossesBeforeWait lost attempts. A single loss may only
	// mean that other writers have written since this writer's last record.
	lossesBeforeWait = 2
	// waitAge is the maximum age of a waiting record that other writers may commit. The record's
	// segments were younger than sweepAge/2 when the record was created, so they are still too
	// young for Sweep.
	waitAge = sweepAge / 4
)

// startWaiting creates the object of a waiting record. From then on, any writer may commit the
// record by naming it in a group.
func (c *commitment) startWaiting(ctx context.Context) error {
	if !c.isWaiting() {
		c.waitingSince = time.Now()
		c.member = member{c.number, int64(len(c.data)), c.writer, c.seq}
		if c.oldestObject.IsZero() { // Sweep may also delete the waiting record's object
			c.oldestObject = c.waitingSince
		}
	}
	err := c.retry(ctx, func(ctx context.Context) error { return c.createOnce(ctx, c.member.name(), c.data) })
	if errors.Is(err, fs.ErrExist) { // an earlier attempt created the object
		err = nil
	}
	c.hasObject = err == nil
	c.isUnknown = c.isUnknown || c.hasObject
	return err
}

// isInGroup reports whether a group in the log names c, which must be waiting. If no group does, it
// sets c.number to the first free number of the log.
func (c *commitment) isInGroup(ctx context.Context) (bool, error) {
	if !c.hasObject {
		if err := c.startWaiting(ctx); err != nil {
			return false, err
		}
	}
	for waited := false; ; {
		var isMember bool
		err := c.retry(ctx, func(ctx context.Context) (err error) { isMember, err = c.holdsRecord(ctx); return err })
		switch {
		case err == nil && isMember:
			return c.confirmInGroup(ctx)
		case err == nil:
			c.number++
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		case waited:
			return false, nil
		default: // pause, so that waiting writers do not all retry at the same moment
			if err := canceled.Wait(ctx, time.After(randomUpTo(4*c.duration))); err != nil {
				return false, err
			}
			waited = true
		}
	}
}

// confirmInGroup pauses and then reports whether the other writer's group in the log object c.number
// still names c. If a faulty bucket let two writers create the object, the second one may have
// replaced the group.
func (c *commitment) confirmInGroup(ctx context.Context) (bool, error) {
	if err := canceled.Wait(ctx, time.After(2*c.duration)); err != nil {
		return false, err
	}
	isMember, err := c.readBack(ctx)
	if err == nil && !isMember {
		err = c.twoWinnersError()
	}
	return isMember, err
}

// group returns an encoded group that names c and other waiting records.
func (c *commitment) group(ctx context.Context) ([]byte, error) {
	var objects []Object
	for o, err := range c.bucket.List(ctx, waitPrefix, waitDir(c.member.number)) {
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	ownIndex := slices.IndexFunc(objects, func(o Object) bool { return o.Name == c.member.name() })
	r := record{number: c.number, op: opGroup, writer: c.writer, seq: c.member.seq, members: []member{c.member}}
	if ownIndex < 0 {
		return r.encode(c.format), nil // the listing lacks c, so the listing is too old to be useful
	}
	// Compute ages by the bucket's clock: the object of c was modified when c began to wait. Begin with
	// the records after c: if a group cannot name all records, other writers' groups then name others.
	now := objects[ownIndex].Modified.Add(age(c.waitingSince))
	for _, o := range slices.Concat(objects[ownIndex+1:], objects[:ownIndex]) {
		m, ok := parseMember(o)
		if old := now.Sub(o.Modified)+c.opts.hooks.segmentAge > waitAge; ok && !old && len(r.members) < maxMembers {
			r.members = append(r.members, m)
		}
	}
	return r.encode(c.format), nil
}
