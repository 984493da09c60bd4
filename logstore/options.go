// Package logstore is partd's log-structured store. It is made for huge numbers of small appends
// to thousands or millions of keys, followed by one read of everything, grouped by key.
//
// An Append writes its batch to a write-ahead file with one call and copies it into a table in
// memory that is divided into ranges of key hashes. A full table is written in the background as
// a segment, range by range. Only reads group by key: they load one range at a time from all
// segments and group its entries in the processor's cache. [Options.Memory] limits memory.
//
// docs/dev/format.md describes the files; docs/dev/design.md explains the design.
//
// docs/dev/invariants.md in the repository lists what must hold (L1 to L12).
package logstore

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Compression is the compression format of a segment's blocks.
type Compression uint8

// Compression formats. The segments in one store may use different formats.
const (
	None Compression = iota
	S2               // fast
	Zstd             // smaller
)

var compressionNames = []string{None: "none", S2: "s2", Zstd: "zstd"}

func (c Compression) String() string {
	if c <= Zstd {
		return compressionNames[c]
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// ParseCompression returns the compression format called name: "none", "s2" or "zstd".
func ParseCompression(name string) (Compression, error) {
	if i := slices.Index(compressionNames, name); i >= 0 {
		return Compression(i), nil
	}
	return None, fmt.Errorf("unknown compression %q: use none, s2 or zstd", name)
}

// Limits and defaults of the options.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 4 << 20
	MaxMemory     = 8 << 30

	defaultFileSize    = 1 << 30
	minFileSize        = 64 << 20
	defaultMaxSessions = 10_000
)

// Options configures a store. The zero value and nil mean the defaults.
type Options struct {
	// Memory limits the memory of the store, in bytes: two tables of recent entries, read
	// buffers, and the index of segments. 0 means [DefaultMemory]. Other values must be between
	// [MinMemory] and [MaxMemory]. The limit does not cover values returned by Get, or additional
	// concurrent Scans, which take about 8 MiB each. If the disk is full while a Scan or an open
	// reader uses the tables, the store allocates up to two more tables, so that other calls can
	// continue. These two take up to three quarters of Memory, in addition to the limit.
	//
	// If the process and its page cache have a common limit, as in a container, a quarter of that
	// limit is best: write-ahead files of up to 3/4 of Memory then stay in the page cache.
	Memory int64

	// Sync makes every change durable before the call returns, so that the change survives a
	// power loss; concurrent changes share one sync. Without Sync, changes survive a crash of the
	// process, but are durable only after [Store.Sync] has returned. A power loss before the first
	// call to Store.Sync may leave a store that cannot be opened.
	Sync bool

	// Compression is used for the blocks of new segments. Large values are
	// stored separately and are not compressed.
	Compression Compression

	// ReadOnly opens an existing store and rejects every change. Several processes can read a
	// store at the same time, while no process has it open for writing.
	ReadOnly bool

	// FileSize is the size, in bytes, at which a large store starts a new data file. A small
	// store uses smaller files, because space is freed one file at a time. 0 means 1 GiB.
	FileSize int64

	// MaxSessions is the number of sessions that the store remembers for [Store.Apply]. When
	// there are more, it forgets the oldest. 0 means 10,000.
	MaxSessions int

	// Logger receives messages about recovery and background failures. Nil means no logging.
	Logger *slog.Logger
}

// hooks change a store's internals in tests.
type hooks struct {
	fs          vfs.FS
	hash        func(key string) uint64 // replaces the keyed hash
	tableBytes  int64                   // size of each of the two tables
	maxBatch    int64                   // maximum bytes of a write-ahead record; the default is half of tableBytes
	blobBytes   int                     // minimum length of a blob
	readBytes   int64                   // maximum bytes that a Scan loads at a time
	batchBytes  int                     // maximum size of a Scan's batch
	scanWorkers int                     // number of workers of a Scan; 0 means GOMAXPROCS, if memory suffices
	walStep     int64                   // growth step of write-ahead files
	minMerge    int                     // number of small segments at which a merge starts; if negative, there are no merges
	smallLen    int64                   // maximum size of a small segment
	mergeBytes  int64                   // maximum size of a merged segment, and of data loaded at a time

	// dead bytes that the store tolerates before it reclaims space; if negative, it never reclaims
	reclaimSlack int64
}

func (o *Options) withDefaults() (Options, error) {
	opts := *cmp.Or(o, new(Options))
	opts.Memory = cmp.Or(opts.Memory, DefaultMemory)
	opts.FileSize = cmp.Or(opts.FileSize, defaultFileSize)
	opts.MaxSessions = cmp.Or(opts.MaxSessions, defaultMaxSessions)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	switch {
	case opts.Memory < MinMemory || opts.Memory > MaxMemory:
		return opts, fmt.Errorf("option Memory is %d bytes: it must be from %d to %d", opts.Memory, MinMemory, int64(MaxMemory))
	case opts.FileSize < 0:
		return opts, fmt.Errorf("option FileSize is %d bytes: it must be positive", opts.FileSize)
	case opts.MaxSessions < 0:
		return opts, fmt.Errorf("option MaxSessions is %d: it must be positive", opts.MaxSessions)
	case opts.Compression > Zstd:
		return opts, fmt.Errorf("option Compression is %v: use none, s2 or zstd", opts.Compression)
	}
	return opts, nil
}
