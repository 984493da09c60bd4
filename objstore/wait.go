package objstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/canceled"
)

// Writers compete to create the log's next number. A record that lost several times waits: its
// writer creates it as a separate object. The writer that gets the next number creates a group,
// which names all waiting records. So many concurrent flushes need few numbers.
//
// Readers apply a waiting record at the first group that names it, and ignore it in later
// groups. So several writers may name it independently.
//
// A group does not contain copies of the records, because a record may contain 4 MiB of footers.
// So a single request can always create it. Separate logs for each writer are no alternative,
// because they would not order Sets, Deletes and Drops of different writers.

const (
	waitPrefix = "wait/"
	// maxMembers is the maximum number of records in a group, which is read with one request.
	maxMembers = 1600
	// A record waits after lossesBeforeWait lost attempts. A first loss may just mean that others
	// have written since this writer's last record, not that they are writing now.
	lossesBeforeWait = 2
	// waitAge is the maximum age of a waiting record that other writers may commit. Sweep has not
	// yet deleted its segments, which were younger than sweepAge/2 when it began to wait.
	waitAge = sweepAge / 4
)

// member is a waiting record.
type member struct {
	number uint64 // number in the log that was free when it began to wait
	size   int64
	writer writerID
	seq    uint64
}

// waitDir returns the name prefix of records that began to wait when number was free in the log.
func waitDir(number uint64) string { return fmt.Sprintf("%s%020d", waitPrefix, number) }

func (m *member) name() string { return fmt.Sprintf("%s/%x-%d", waitDir(m.number), m.writer, m.seq) }

// parseMember parses an object's name; it reverses member.name.
func parseMember(o Object) (m member, ok bool) {
	number, suffix, _ := strings.Cut(strings.TrimPrefix(o.Name, waitPrefix), "/")
	writer, seq, _ := strings.Cut(suffix, "-")
	m.size = o.Size
	m.number, _ = strconv.ParseUint(number, 10, 64)
	m.seq, _ = strconv.ParseUint(seq, 10, 64)
	b, _ := hex.DecodeString(writer)
	copy(m.writer[:], b)
	return m, m.name() == o.Name
}

// isWaiting reports whether the record is, or may be, a separate object.
func (c *commitment) isWaiting() bool { return c.member.seq > 0 }

// startWaiting creates the object of a waiting record. From then on, any writer may commit the
// record by naming it in a group.
func (s *Store) startWaiting(ctx context.Context, c *commitment) error {
	if !c.isWaiting() {
		c.waitingSince = time.Now()
		c.member = member{c.number, int64(len(c.data)), s.writer, s.lastSeq + 1}
		if c.oldestObject.IsZero() { // Sweep may also delete the record's own object
			c.oldestObject = c.waitingSince
		}
	}
	err := s.retry(ctx, func(ctx context.Context) error { return s.createOnce(ctx, c, c.member.name(), c.data) })
	if errors.Is(err, fs.ErrExist) { // an earlier attempt created it
		err = nil
	}
	c.hasObject = err == nil
	c.isUnknown = (c.isUnknown || c.hasObject) && !s.opts.hooks.forgetWaiting
	return err
}

// isInGroup reports whether a group in the log names c, a waiting record. If none does, it sets
// c.number to the first free number of the log.
func (s *Store) isInGroup(ctx context.Context, c *commitment) (bool, error) {
	if !c.hasObject {
		if err := s.startWaiting(ctx, c); err != nil {
			return false, err
		}
	}
	for waited := false; ; {
		var isMember bool
		err := s.retry(ctx, func(ctx context.Context) (err error) { isMember, err = s.holdsRecord(ctx, c); return err })
		switch {
		case err == nil && isMember:
			return s.confirmInGroup(ctx, c)
		case err == nil:
			c.number++
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		case waited:
			return false, nil
		default: // spread out the attempts of waiting writers
			if err := canceled.Wait(ctx, time.After(randomUpTo(4*c.duration))); err != nil {
				return false, err
			}
			waited = true
		}
	}
}

// confirmInGroup reads another writer's group, which names c, again after a while. If a faulty
// bucket let two writers create that object, the group may have been replaced since; its creator
// would notice, but this writer would not.
func (s *Store) confirmInGroup(ctx context.Context, c *commitment) (bool, error) {
	if s.opts.hooks.noRecheck {
		return true, nil
	}
	if err := canceled.Wait(ctx, time.After(2*c.duration)); err != nil {
		return false, err
	}
	isMember, err := s.readBack(ctx, c)
	if err == nil && !isMember {
		err = s.twoWinnersError(c)
	}
	return isMember, err
}

// group returns an encoded group that names all waiting records, beginning with c's.
func (s *Store) group(ctx context.Context, c *commitment) ([]byte, error) {
	var objects []Object
	for o, err := range s.bucket.List(ctx, waitPrefix, waitDir(c.member.number)) {
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	ownIndex := slices.IndexFunc(objects, func(o Object) bool { return o.Name == c.member.name() })
	r := record{number: c.number, op: opGroup, writer: s.writer, seq: c.member.seq, members: []member{c.member}}
	if ownIndex < 0 {
		return r.encode(s.format), nil // the listing is stale, so it is useless for other records
	}
	// Ages are by the bucket's clock, relative to this record's object. Each writer lists the
	// records after its own first, so if there are too many, groups contain different ones.
	now := objects[ownIndex].Modified.Add(age(c.waitingSince))
	for _, o := range slices.Concat(objects[ownIndex+1:], objects[:ownIndex]) {
		m, ok := parseMember(o)
		if old := now.Sub(o.Modified)+s.opts.hooks.segmentAge > waitAge; ok && (!old || s.opts.hooks.groupOldRecords) && len(r.members) < maxMembers {
			r.members = append(r.members, m)
		}
	}
	return r.encode(s.format), nil
}

// age returns the time since t. It is correct even if the machine slept or its clock was set.
func age(t time.Time) time.Duration { return max(time.Since(t), time.Since(t.Round(0))) }
