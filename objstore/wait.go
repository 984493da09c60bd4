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

// A record that lost its number to others again and again waits: it becomes an object of
// its own. Whoever gets the next number puts all that wait into the log, by a group, which
// names them. So flushes at the same time take few numbers.
//
// A record that waits counts from the first group on that names it, once. So it does no
// harm that writers who know nothing of each other name it in several.
//
// A group does not copy records, of which each may have 4 MiB of footers: one request makes
// it, however many it names. With a log for each writer, nothing would say whose Set, Delete
// or Drop came first.

const (
	waitPrefix = "wait/"
	// maxMembers is how many records a group names. One request reads a group.
	maxMembers = 1600
	// lossesAlone is how many numbers a record loses before it waits. The first one may
	// only show that others wrote since this writer's last record.
	lossesAlone = 2
	// waitAge is how long a record may have waited that others put into the log. What it
	// refers to was younger than sweepAge/2 when it began.
	waitAge = sweepAge / 4
)

// member is a record that waits.
type member struct {
	number uint64 // of the log, free when it began to wait
	size   int64
	writer writerID
	seq    uint64
}

// waitDir is what the names of all begin with that began to wait at a number.
func waitDir(number uint64) string { return fmt.Sprintf("%s%020d", waitPrefix, number) }

func (m *member) name() string { return fmt.Sprintf("%s/%x-%d", waitDir(m.number), m.writer, m.seq) }

// parseMember is the opposite of name.
func parseMember(o Object) (m member, ok bool) {
	number, rest, _ := strings.Cut(strings.TrimPrefix(o.Name, waitPrefix), "/")
	writer, seq, _ := strings.Cut(rest, "-")
	m.size = o.Size
	m.number, _ = strconv.ParseUint(number, 10, 64)
	m.seq, _ = strconv.ParseUint(seq, 10, 64)
	b, _ := hex.DecodeString(writer)
	copy(m.writer[:], b)
	return m, m.name() == o.Name
}

// waits reports whether a record is an object of its own, or may be.
func (c *commitment) waits() bool { return c.member.seq > 0 }

// wait makes an object of a record. From then on, anybody may put it into the log.
func (s *Store) wait(ctx context.Context, c *commitment) error {
	if !c.waits() {
		c.since = time.Now()
		c.member = member{c.number, int64(len(c.data)), s.writer, s.seq + 1}
		if c.born.IsZero() { // this object may be swept, too
			c.born = c.since
		}
	}
	err := s.retry(ctx, func(ctx context.Context) error { return s.createOnce(ctx, c, c.member.name(), c.data) })
	if errors.Is(err, fs.ErrExist) { // an earlier try has made it
		err = nil
	}
	c.waiting = err == nil
	c.sent = (c.sent || c.waiting) && !s.opts.hooks.forgets
	return err
}

// named reports whether a group names a record that waits. If none does, the log ends
// before the number of c.
func (s *Store) named(ctx context.Context, c *commitment) (bool, error) {
	if !c.waiting {
		if err := s.wait(ctx, c); err != nil {
			return false, err
		}
	}
	for waited := false; ; {
		var found bool
		err := s.retry(ctx, func(ctx context.Context) (err error) { found, err = s.holds(ctx, c); return err })
		switch {
		case err == nil && found:
			return s.stillNamed(ctx, c)
		case err == nil:
			c.number++
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		case waited:
			return false, nil
		default: // of those that wait, few should go on at the same time
			if err := canceled.Wait(ctx, time.After(randomUpTo(4*c.took))); err != nil {
				return false, err
			}
			waited = true
		}
	}
}

// stillNamed reads another writer's group again after a while. That one may be about to
// learn that the bucket has let two writers win, and this one would never.
func (s *Store) stillNamed(ctx context.Context, c *commitment) (bool, error) {
	if s.opts.hooks.hasty {
		return true, nil
	}
	if err := canceled.Wait(ctx, time.After(2*c.took)); err != nil {
		return false, err
	}
	found, err := s.readBack(ctx, c)
	if err == nil && !found {
		err = s.twoWinners(c)
	}
	return found, err
}

// group returns a record that names all that wait, this one first.
func (s *Store) group(ctx context.Context, c *commitment) ([]byte, error) {
	var all []Object
	for o, err := range s.bucket.List(ctx, waitPrefix, waitDir(c.member.number)) {
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	own := slices.IndexFunc(all, func(o Object) bool { return o.Name == c.member.name() })
	r := record{number: c.number, op: opGroup, writer: s.writer, seq: c.member.seq, members: []member{c.member}}
	if own < 0 {
		return r.encode(s.format), nil // what a listing that lags behind says of others is of no use
	}
	// By the clock of the bucket, as it shows when this record began to wait. If too many
	// wait, each writer begins with others.
	now := all[own].Modified.Add(age(c.since))
	for _, o := range slices.Concat(all[own+1:], all[:own]) {
		m, ok := parseMember(o)
		if old := now.Sub(o.Modified)+s.opts.hooks.segmentAge > waitAge; ok && (!old || s.opts.hooks.namesOld) && len(r.members) < maxMembers {
			r.members = append(r.members, m)
		}
	}
	return r.encode(s.format), nil
}

// age is how long ago something was, also on a machine that slept, or set its clock.
func age(t time.Time) time.Duration { return max(time.Since(t), time.Since(t.Round(0))) }
