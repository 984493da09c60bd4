// Package logstore is partd's log-structured store. It is made for huge
// numbers of small appends to thousands or millions of keys, and one grouped
// read of them all.
//
// An Append writes its batch to a write-ahead file with one call, and copies it
// into a table in memory that is already split into hash ranges. A full table
// is written in the background as a segment, range by range. Only the read
// groups by key: it takes one range at a time from every segment and groups it
// in the processor's cache. A single option limits memory.
//
// docs/format.md describes the files, and docs/design.md explains their
// design.
package logstore

import (
	"cmp"
	"fmt"
	"log/slog"

	"github.com/go-partd/partd/internal/vfs"
)

// Compression says how the blocks of segments are compressed.
type Compression uint8

// The compressions. One store may hold segments with different ones.
const (
	None Compression = iota
	S2               // fast
	Zstd             // smaller
)

func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// ParseCompression returns the compression with a name: none, s2 or zstd.
func ParseCompression(name string) (Compression, error) {
	for _, c := range []Compression{None, S2, Zstd} {
		if c.String() == name {
			return c, nil
		}
	}
	return None, fmt.Errorf("unknown compression %q: use none, s2 or zstd", name)
}

// Limits of the options.
const (
	DefaultMemory = 256 << 20
	MinMemory     = 4 << 20
	MaxMemory     = 8 << 30

	defaultFileSize    = 1 << 30
	minFile            = 64 << 20
	defaultMaxSessions = 10_000
)

// Options configures a store. The zero value and nil mean the defaults.
type Options struct {
	// Memory limits the memory of the store, in bytes: tables being filled and
	// written out, read buffers, and the index of segments. 0 means
	// [DefaultMemory]; at least [MinMemory], at most [MaxMemory]. It does not
	// count values returned by Get, which belong to the caller, nor the 8 MiB
	// or so of each additional concurrent Scan. If a Scan or an open reader
	// holds tables that cannot be written to a full disk, the store creates up
	// to two more, three quarters of Memory, so that others can go on.
	Memory int64

	// Sync makes every append survive a loss of power before it is
	// acknowledged; appends made at the same time share one sync. Otherwise
	// an acknowledged append survives the death of the process, but a power
	// loss only once [Store.Sync] has returned. A power loss before the first
	// Sync may leave a store that cannot be opened.
	Sync bool

	// Compression is used for the blocks of new segments. Large values are
	// stored separately and are not compressed.
	Compression Compression

	// ReadOnly opens an existing store and refuses every change. Several
	// processes may have a store open for reading at the same time, as long
	// as none has it open for writing.
	ReadOnly bool

	// FileSize is the maximum size, in bytes, at which the store starts a new
	// data file. A small store starts them earlier, so that it can free space.
	// 0 means 1 GiB.
	FileSize int64

	// MaxSessions is the number of sessions that the store remembers for
	// [Store.Apply]. When there are more, it forgets the oldest. 0 means
	// 10,000.
	MaxSessions int

	// Logger receives messages about recovery and about failures in the
	// background. Nil means no logging.
	Logger *slog.Logger
}

// hooks are what tests change inside a store.
type hooks struct {
	fs         vfs.FS
	hash       func(key string) uint64 // instead of the keyed hash
	tableBytes int64                   // size of each of the two tables
	blobBytes  int                     // length from which a value is a blob
	readBytes  int64                   // what a Scan may load at once
	batchBytes int                     // what a Scan hands over at once
	// Workers of a Scan. 0: as many as run at once and have enough memory.
	scanWorkers int
	walStep     int64 // by which write-ahead files grow
	minMerge    int   // so many small segments are merged; negative: never
	mergeFull   int64 // size of a segment that is not small
	mergeBytes  int64 // of a merged segment, and loaded at once

	// Bytes of dead data that are not worth looking at; negative: space is
	// never given back.
	reclaimSlack int64

	// Each of these takes one protection out, to prove that the tests of
	// crashes notice.
	noSync, noCRC, noEpoch bool
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
