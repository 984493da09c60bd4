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
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Options configures [Open]. Zero values mean the defaults.
type Options struct {
	// Memory limits the memory for data, in bytes. 0 means [DefaultMemory]; the minimum is
	// [MinMemory].
	Memory int64
	// SegmentSize is the number of bytes that the store buffers before it uploads them as an
	// object. It is limited to a seventh of Memory and to 1 GiB. 0 means [DefaultSegmentSize].
	// Larger segments need fewer requests.
	SegmentSize int64
	// ReadOnly opens the store for reading only, which needs no permission to write to the
	// bucket.
	ReadOnly bool
	// Disk limits the total size of the readers' temporary files, in bytes. If Disk is 0, a
	// reader of a large store makes several passes. Each pass reads the keys that fit in Memory,
	// with one request per segment. With a disk, a reader reads the data only once, with fewer
	// and larger requests, and groups it by key in a file. If the file would be larger than Disk
	// or than the free space, reading fails immediately.
	Disk int64
	// DiskDir is the directory for temporary files, which disappear with the process. Empty
	// means [os.TempDir].
	DiskDir string
	// RetryFor is how long the store retries a request after a transient failure; 0 means one
	// minute.
	RetryFor time.Duration

	hooks hooks
}

// hooks change limits, in tests.
type hooks struct {
	keyHash    func(key string) uint64 // hash function of keys
	segmentAge time.Duration           // added to the age of segments
	maxInline  int64                   // maximum size of a table of entries that is stored inside a log record
	rangeBytes int64                   // minimum average size of a segment's key ranges

	alwaysRegroup bool  // readers always use temporary files if Disk > 0
	requestBytes  int64 // average request size below which readers use temporary files, if Disk > 0
	fs            vfs.FS
}

const (
	DefaultMemory      = 512 << 20
	MinMemory          = 16 << 20
	DefaultSegmentSize = 64 << 20

	defaultInline       = 256 << 10
	defaultRangeBytes   = 16 << 10
	defaultRequestBytes = 1 << 20
)

// sweepAge is the age after which Sweep deletes an unused segment. Writers do not commit segments
// older than sweepAge/2.
const sweepAge = 24 * time.Hour

func (o *Options) withDefaults() (Options, error) {
	c := *cmp.Or(o, new(Options))
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.SegmentSize = cmp.Or(c.SegmentSize, DefaultSegmentSize)
	c.RetryFor = cmp.Or(c.RetryFor, time.Minute)
	c.hooks.maxInline = cmp.Or(c.hooks.maxInline, defaultInline)
	c.hooks.rangeBytes = cmp.Or(c.hooks.rangeBytes, defaultRangeBytes)
	c.hooks.requestBytes = cmp.Or(c.hooks.requestBytes, defaultRequestBytes)
	if c.hooks.fs == nil {
		c.hooks.fs = vfs.OS{}
	}
	c.DiskDir = cmp.Or(c.DiskDir, os.TempDir())
	if c.Memory < MinMemory || min(c.SegmentSize, c.Disk) < 0 || c.RetryFor < 0 {
		return c, errors.New("objstore options: Memory must be at least 16 MiB, and no option may be negative")
	}
	return c, nil
}

// scanMemory returns the memory limit for all readers together.
func (o *Options) scanMemory() int64 { return o.Memory / 16 * 7 }

// retry calls [Retry] for requests that transfer at most a segment.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context) error) error {
	return Retry(ctx, s.opts.RetryFor, s.tableSize(), nil, f)
}

// Retry calls f, which makes one request to a bucket, until f succeeds, fails permanently, or the
// time limit expires. size is the number of bytes that a request transfers. Because connections can
// hang, each call of f may take only as long as limit, plus a second for each MiB of size. If progress
// is not nil, f may increase *progress, which restarts the time limit.
func Retry(ctx context.Context, limit time.Duration, size int64, progress *int, f func(ctx context.Context) error) error {
	if f == nil {
		return errors.New("Retry: the function f must not be nil")
	}
	deadline := time.Now().Add(limit)
	attemptLimit := max(limit, time.Second) + time.Duration(size>>20)*time.Second
	sawDamage, lastDone := false, 0
	for attempt := 0; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, attemptLimit)
		err := f(attemptCtx)
		cancel()
		if progress != nil && *progress > lastDone {
			sawDamage, lastDone, deadline = false, *progress, time.Now().Add(limit)
		}
		switch {
		case err == nil || isDefinite(err):
			return err
		case ctx.Err() != nil:
			return errors.Join(canceled.Err(ctx), err)
		case errors.As(err, new(*partd.CorruptError)): // retry once, because the network may have flipped bits
			if sawDamage {
				return err
			}
			sawDamage = true
		case time.Now().After(deadline):
			return err
		}
		if err := pauseBeforeRetry(ctx, attempt); err != nil {
			return err
		}
	}
}

// isDefinite reports whether the outcome of a failed request is known, so retrying is useless.
func isDefinite(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused)
}

// pauseBeforeRetry waits for a random time, so that competing writers do not retry at the same
// moment. The time increases with attempt, the number of failed attempts.
func pauseBeforeRetry(ctx context.Context, attempt int) error {
	return canceled.Wait(ctx, time.After(randomUpTo(min(10*time.Millisecond<<min(attempt, 8), time.Second))))
}

func randomUpTo(limit time.Duration) time.Duration { return rand.N(limit+1) + time.Millisecond }
