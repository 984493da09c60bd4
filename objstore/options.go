package objstore

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/vfs"
)

// Options configures [Open]. Zero values mean the defaults.
type Options struct {
	// Memory limits the memory for data, in bytes. 0 means [DefaultMemory]; the
	// minimum is [MinMemory].
	Memory int64
	// SegmentSize is the maximum number of bytes that the store buffers before it uploads
	// them as an object. It is also limited to a seventh of Memory and to 1 GiB. 0 means
	// [DefaultSegmentSize]. Larger segments need fewer requests.
	SegmentSize int64
	// ReadOnly opens the store for reading only, with no need for permission to
	// write to the bucket.
	ReadOnly bool
	// Disk is how many bytes of temporary files readers of this store may have, all
	// together. A reader of a large store then reads its part of each segment once, by
	// one request or by several of a MiB and more, and regroups it in a temporary file;
	// if that takes more than Disk, or than is free, reading fails before it begins. 0
	// means no files: a reader reads as many keys at once as fit in Memory, with a
	// request to each segment for each of these passes.
	Disk int64
	// DiskDir is the directory of temporary files. Empty means [os.TempDir]. They have no
	// names, so they are gone with the process.
	DiskDir string
	// RetryFor limits how long the store retries a request after a transient failure.
	// 0 means one minute.
	RetryFor time.Duration

	hooks hooks
}

// hooks take protections out, in tests.
type hooks struct {
	naive412    bool             // one that exists is another's
	conflict    func(error) bool // what is 409, and taken for one that exists
	alone       bool             // no record waits for a group
	forgets     bool             // what waits is taken for not made
	hasty       bool             // another's group is not read again
	namesOld    bool             // records count that waited for long
	countsTwice bool             // what several groups name
	noLedger    bool             // what a scan found is not compared with the ledgers
	skip        func(object string) bool
	keyHash     func(key string) uint64
	segmentAge  time.Duration // added to the age of segments
	inline      int64         // how large a table is that goes into the log itself
	rangeBytes  int64

	regroup      bool  // a reader with a disk regroups on it even what fits in memory
	requestBytes int64 // a reader makes no shorter requests if it has a disk
	fs           vfs.FS
}

const (
	DefaultMemory      = 512 << 20
	MinMemory          = 16 << 20
	DefaultSegmentSize = 64 << 20

	defaultInline     = 256 << 10
	defaultRangeBytes = 16 << 10
	defaultRequest    = 1 << 20
)

// A segment that nothing refers to after sweepAge is of a writer that died; a writer
// gives up what is half as old.
const sweepAge = 24 * time.Hour

func (o *Options) withDefaults() (Options, error) {
	c := *cmp.Or(o, new(Options))
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.SegmentSize = cmp.Or(c.SegmentSize, DefaultSegmentSize)
	c.RetryFor = cmp.Or(c.RetryFor, time.Minute)
	c.hooks.inline = cmp.Or(c.hooks.inline, defaultInline)
	c.hooks.rangeBytes = cmp.Or(c.hooks.rangeBytes, defaultRangeBytes)
	c.hooks.requestBytes = cmp.Or(c.hooks.requestBytes, defaultRequest)
	if c.hooks.fs == nil {
		c.hooks.fs = vfs.OS{}
	}
	c.DiskDir = cmp.Or(c.DiskDir, os.TempDir())
	if c.Memory < MinMemory || min(c.SegmentSize, c.Disk) < 0 || c.RetryFor < 0 {
		return c, errors.New("options of a store in a bucket: memory must be at least 16 MiB, and nothing negative")
	}
	return c, nil
}

// scanMemory is what readers may take, all together.
func (o *Options) scanMemory() int64 { return o.Memory / 16 * 7 }

// retry is Retry within RetryFor, for objects of the size of a segment.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context) error) error {
	return Retry(ctx, s.opts.RetryFor, s.tableSize(), nil, f)
}

// Retry calls f, which makes one request to a bucket, until f succeeds or fails for good,
// or the time within is over. Since a connection may hang, each attempt is also limited:
// to within, plus a second for each MiB of size. Retry requests damaged data once more.
// If done is not nil, f counts there what it has done, and the time begins again with
// each attempt that did some.
func Retry(ctx context.Context, within time.Duration, size int64, done *int, f func(ctx context.Context) error) error {
	if f == nil {
		return errors.New("retrying nothing: give a function that makes a request")
	}
	end := time.Now().Add(within)
	limit := max(within, time.Second) + time.Duration(size>>20)*time.Second
	damaged, before := false, 0
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, limit)
		err := f(once)
		cancel()
		if done != nil && *done > before {
			damaged, before, end = false, *done, time.Now().Add(within)
		}
		switch {
		case err == nil || definite(err):
			return err
		case ctx.Err() != nil:
			return errors.Join(canceled.Err(ctx), err)
		case errors.As(err, new(*partd.CorruptError)):
			if damaged { // once more, since bits flip on their way, too
				return err
			}
			damaged = true
		case time.Now().After(end):
			return err
		}
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
	return canceled.Wait(ctx, time.After(randomUpTo(min(10*time.Millisecond<<min(try, 8), time.Second))))
}

func randomUpTo(most time.Duration) time.Duration { return rand.N(most+1) + time.Millisecond }
