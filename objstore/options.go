package objstore

import (
	"cmp"
	"errors"
	"os"
	"time"

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

// hooks lets tests change limits.
type hooks struct {
	keyHash    func(key string) uint64 // hash function for keys
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

const (
	minTableSize = 144 << 10 // large enough for the largest entry
	memoryShares = 7         // a table has at most Memory/memoryShares bytes; appends use 3⅔ times the size of a table
	maxTableSize = 1 << 30   // offsets have 32 bits, and one S3 request accepts at most 5 GB
	// maxFooterBytes is the approximate limit for all segment footers in one log record.
	maxFooterBytes = 4 << 20
)

// tableSize returns the size at which a table of buffered entries becomes a segment.
func (o *Options) tableSize() int64 {
	return min(max(o.SegmentSize, minTableSize), o.Memory/memoryShares, maxTableSize)
}

// maxPending returns the maximum number of segments that one log record commits.
func (o *Options) maxPending() int {
	return int(maxFooterBytes / (4*(o.tableSize()/o.hooks.rangeBytes) + 200))
}

func (o *Options) catalogMemory() int64 { return o.Memory / 8 }
