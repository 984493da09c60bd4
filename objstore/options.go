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
	// ReadOnly opens the store for reading only. Permission to write to the bucket is not
	// needed.
	ReadOnly bool
	// Disk limits the total size of the readers' temporary files, in bytes. With temporary
	// files, a reader of a large store reads its part of each segment only once, in requests of
	// at least 1 MiB, and regroups the data in a file. If the file would be larger than Disk or
	// than the free space, reading fails immediately. If Disk is 0, readers use no files but make
	// several passes: each pass reads the keys that fit in Memory, with one request per segment.
	Disk int64
	// DiskDir is the directory for temporary files. Empty means [os.TempDir]. The files
	// have no names, so they disappear with the process.
	DiskDir string
	// RetryFor limits how long the store retries a request after a transient failure.
	// 0 means one minute.
	RetryFor time.Duration

	hooks hooks
}

// hooks disable protections and change limits, in tests. A group is a record of the log that
// commits waiting records of several writers.
type hooks struct {
	noReadBack      bool                     // do not read a record to check who wrote it: assume that an existing one is another writer's
	isConflict      func(error) bool         // reports whether an error means that the object already exists
	noGroups        bool                     // writers retry by themselves, and never wait for a group
	forgetWaiting   bool                     // forget that a waiting record may be committed later
	noRecheck       bool                     // do not read another writer's group a second time
	groupOldRecords bool                     // groups include records that have waited too long
	applyTwice      bool                     // apply a record once for each group that includes it
	noLedger        bool                     // scans do not compare their data with the ledgers
	skipSegment     func(object string) bool // reports whether readers ignore a segment
	keyHash         func(key string) uint64  // hash function of keys
	segmentAge      time.Duration            // added to the age of segments
	maxInline       int64                    // maximum size of a table of entries that is stored inside a log record
	rangeBytes      int64                    // minimum average size of a segment's key ranges

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

// sweepAge is the age after which Sweep deletes an unreferenced segment. Writers no longer
// commit a segment after half that time.
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

// retry calls Retry with the limit RetryFor, for requests of up to a segment.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context) error) error {
	return Retry(ctx, s.opts.RetryFor, s.tableSize(), nil, f)
}

// Retry calls f, which makes one request to a bucket, until f succeeds, fails permanently, or the
// time limit expires. Because connections can hang, each attempt also has a limit: the same limit,
// plus a second for each MiB of size. Damaged data is requested once more. If progress is not nil, f
// stores its progress there, and an attempt that makes progress restarts the time limit.
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

// isDefinite reports whether the effect of a failed request is known, and retrying is useless.
func isDefinite(err error) bool {
	return errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused)
}

// pauseBeforeRetry waits for a random time that increases with the attempt number, so that
// competing writers do not all retry at the same moment.
func pauseBeforeRetry(ctx context.Context, attempt int) error {
	return canceled.Wait(ctx, time.After(randomUpTo(min(10*time.Millisecond<<min(attempt, 8), time.Second))))
}

func randomUpTo(limit time.Duration) time.Duration { return rand.N(limit+1) + time.Millisecond }
