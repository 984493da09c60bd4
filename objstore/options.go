package objstore

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/go-partd/partd"
)

// Options are the options of [Open]. The zero value of each is its default.
type Options struct {
	// Memory is what the store takes for its data at the most, in bytes, not below
	// [MinMemory]. 0 is [DefaultMemory].
	Memory int64
	// SegmentSize is how many bytes are gathered, at the most, before they are uploaded
	// as an object; a tenth of Memory and 1 GiB are other bounds. 0 is [DefaultSegmentSize].
	// Larger segments make fewer requests.
	SegmentSize int64
	// ReadOnly is for those who may not write to the bucket, or do not want to.
	ReadOnly bool
	// RetryFor is how long a request is tried again that failed for a reason that may
	// pass. 0 is one minute.
	RetryFor time.Duration

	hooks hooks
}

// hooks take protections out, in tests.
type hooks struct {
	naive412     bool             // one that exists is another's
	conflict     func(error) bool // what is 409, and taken for one that exists
	noLedger     bool             // what a scan found is not compared with the ledgers
	skip         func(object string) bool
	keyHash      func(key string) uint64
	segmentAge   time.Duration // added to the age of segments
	inline       int64         // how large a table is that goes into the log itself
	rangeBytes   int64
	beforeCommit func()
}

const (
	DefaultMemory      = 512 << 20
	MinMemory          = 16 << 20
	DefaultSegmentSize = 64 << 20

	defaultInline     = 256 << 10
	defaultRangeBytes = 16 << 10
)

func (h *hooks) conflictExists(err error) bool { return h.conflict != nil && h.conflict(err) }

// A segment that nothing refers to after sweepAge is of a writer that died; a writer
// gives up what is half as old.
const sweepAge = 24 * time.Hour

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.SegmentSize = cmp.Or(c.SegmentSize, DefaultSegmentSize)
	c.RetryFor = cmp.Or(c.RetryFor, time.Minute)
	c.hooks.inline = cmp.Or(c.hooks.inline, defaultInline)
	c.hooks.rangeBytes = cmp.Or(c.hooks.rangeBytes, defaultRangeBytes)
	if c.Memory < MinMemory || c.SegmentSize < 0 || c.RetryFor < 0 {
		return c, errors.New("options of a store in a bucket: memory is 16 MiB at least, and nothing is below 0")
	}
	return c, nil
}

// retry is Retry within RetryFor, for objects of the size of a segment.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context) error) error {
	return retry(ctx, s.opts.RetryFor, s.tableSize(), func() { s.counts.retries.Add(1) }, f)
}

// Retry calls f, which makes a request of a bucket, until it works or cannot work, or a
// time is over. Each try has a limit of its own, since a connection may hang: that time,
// and a second for each MiB of size. What is damaged is asked for once more.
func Retry(ctx context.Context, within time.Duration, size int64, f func(ctx context.Context) error) error {
	return retry(ctx, within, size, func() {}, f)
}

func retry(ctx context.Context, within time.Duration, size int64, again func(), f func(ctx context.Context) error) error {
	end := time.Now().Add(within)
	limit := max(within, time.Second) + time.Duration(size>>20)*time.Second
	damaged := false
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, limit)
		err := f(once)
		cancel()
		switch {
		case err == nil || definite(err):
			return err
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case errors.As(err, new(*partd.CorruptError)):
			if damaged { // once more, since bits flip on their way, too
				return err
			}
			damaged = true
		case time.Now().After(end):
			return err
		}
		again()
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// definite reports whether trying again is of no use, and that it is known what was
// done.
func definite(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused)
}

// pause waits, the longer the more often, and at random, so that those who contend
// do not meet again.
func pause(ctx context.Context, try int) error {
	most := min(10*time.Millisecond<<min(try, 8), time.Second)
	select {
	case <-time.After(rand.N(most) + time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
