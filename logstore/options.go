// Package logstore is partd's log-structured store: made for very many small
// appends to thousands or millions of keys, and one grouped read of them all.
//
// An Append writes its batch to a write-ahead file with one call, and copies
// it into a table in memory that is already split into hash ranges. A full
// table is written out in the background as a segment, range by range. Grouping
// by key is left to the read, which takes a range from every segment at a time
// and does it in the processor's cache. Memory is bounded by one option.
//
// docs/format.md describes the files, docs/design.md why they are so.
package logstore

import (
	"cmp"
	"fmt"
	"log/slog"

	"github.com/go-partd/partd/internal/vfs"
)

// Compression is how the blocks of segments are compressed.
type Compression uint8

// The compressions. A store may hold segments of several.
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

// ParseCompression returns the compression of a name: none, s2 or zstd.
func ParseCompression(name string) (Compression, error) {
	for _, c := range []Compression{None, S2, Zstd} {
		if c.String() == name {
			return c, nil
		}
	}
	return None, fmt.Errorf("unknown compression %q: there are none, s2 and zstd", name)
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

// Options of a store. The zero value, and nil, are the defaults.
type Options struct {
	// Memory bounds what the store holds in memory, in bytes: tables being
	// filled and written out, buffers of reads, and what is known of segments.
	// 0 means [DefaultMemory];
	// at least [MinMemory], at most [MaxMemory]. Values returned by Get are the
	// caller's and not counted, nor is what a second Scan at the same time
	// takes, about 8 MiB. Where a Scan or an Open holds tables that a full disk
	// keeps from being written out, up to two more are made, three quarters of
	// Memory, so that it stops nobody else.
	Memory int64

	// Sync makes every append survive a loss of power before it is
	// acknowledged; appends made at the same time share one sync. Otherwise
	// an acknowledged append survives the death of the process, and a loss of
	// power only once [Store.Sync] returned; a loss of power before the first
	// Sync may leave a store that cannot be opened.
	Sync bool

	// Compression of the blocks of new segments. Large values, which are kept
	// apart, are not compressed.
	Compression Compression

	// ReadOnly opens a store that exists and refuses every change. Several
	// processes may have a store open for reading at once, while none has it
	// open for writing.
	ReadOnly bool

	// FileSize is the size in bytes above which a new data file is begun, at
	// most: as long as the store is small, they are smaller, so that space can
	// be given back. 0 means 1 GiB.
	FileSize int64

	// MaxSessions is how many sessions are remembered for [Store.Apply]. The
	// oldest is forgotten when there are more. 0 means 10,000.
	MaxSessions int

	// Logger receives what recovery did and what failed in the background. Nil
	// means none.
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
	var opts Options
	if o != nil {
		opts = *o
	}
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
		return opts, fmt.Errorf("option Compression is %v: there are none, s2 and zstd", opts.Compression)
	}
	return opts, nil
}
